"""Check hosts and settings of a training run before it starts. slurm/train.sbatch begins with it.

accelerate launch --config_file accelerate_configs/multi_gpu.yaml --num_processes 8 scripts/preflight.py --config scripts/recipes/squad_v2.yaml

Takes a training run's settings and its launch line, and prints what would go wrong. Nothing is trained, and no file is left
behind. It takes a few seconds in addition to the start of the processes.
"""

from qa_accel.training.settings import TrainConfig

Config = TrainConfig
