"""Measure how fast each part runs on this machine; prints one JSON line per measurement.

python scripts/bench.py --model minilm --compare

Each figure is the median over repeats after a warm-up. With `compare` the baseline (random order, padding to each
batch's longest window, eager, torch's default AdamW) runs in the same process, so that a ratio does not depend on the
machine. Models are made from a config with random weights: nothing is downloaded, and the values of the weights do not affect speed.
"""

from qa_accel.bench.settings import BenchConfig

Config = BenchConfig
