"""Fill the cache of a training run before it starts: one process, no process group, no GPU.

python scripts/prepare.py --config scripts/recipes/squad_v2.yaml
"""

from qa_accel.training.settings import TrainConfig

Config = TrainConfig
