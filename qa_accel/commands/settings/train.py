"""Fine-tune a model on every process that accelerate started; evaluate it, keep the best, write the final folder.

accelerate launch --config_file accelerate_configs/multi_gpu.yaml --num_processes 8 scripts/train.py --config scripts/recipes/squad_v2.yaml
"""

from qa_accel.training.settings import TrainConfig

Config = TrainConfig
