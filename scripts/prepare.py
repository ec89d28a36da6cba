"""python scripts/prepare.py --config scripts/recipes/squad_v2.yaml

Takes a training run's settings and fills the cache that the run then finds. One process, no process group, no GPU.
"""

from qa_accel import config
from qa_accel.data import splits as prepare
from qa_accel.distributed import accelerator as runtime
from qa_accel.training import trainer as train

if __name__ == "__main__":
    runtime.run(lambda: prepare.run(config.parse(train.TrainConfig, description=__doc__)))
