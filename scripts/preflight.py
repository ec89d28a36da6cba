"""accelerate launch --config_file accelerate_configs/multi_gpu.yaml scripts/preflight.py --config scripts/recipes/squad_v2.yaml

Takes a training run's settings and its launch line, and says what would go wrong. slurm/train.sbatch begins with it.
"""

from qa_accel import config
from qa_accel.distributed import accelerator as runtime
from qa_accel.preflight import checks as preflight
from qa_accel.training import trainer as train

if __name__ == "__main__":
    runtime.run(lambda: preflight.run(config.parse(train.TrainConfig, description=__doc__)))
