"""python scripts/bench.py --model minilm --compare

Speed of each part on this machine, one JSON line per measurement; needs no data and no network.
"""

from qa_accel import config
from qa_accel.commands import bench
from qa_accel.distributed import accelerator as runtime

if __name__ == "__main__":
    runtime.run(lambda: bench.run(config.parse(bench.BenchConfig, description=__doc__)))
