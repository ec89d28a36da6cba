"""accelerate launch --config_file accelerate_configs/multi_gpu.yaml --num_processes 8 scripts/train.py \
    --config scripts/recipes/squad_v2.yaml"""

from qa_accel.distributed import signals
from qa_accel.training import stage_timer as clock

started = clock.Clock()
signals.listen(signals.BEFORE_TRAINING)  # before the seconds that importing torch takes

from qa_accel import config  # noqa: E402
from qa_accel.distributed import accelerator as runtime  # noqa: E402
from qa_accel.training import trainer as train  # noqa: E402

if __name__ == "__main__":
    started.ends("imports")
    runtime.run(lambda: train.run(config.parse(train.TrainConfig, description=__doc__), started))
