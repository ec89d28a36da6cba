"""accelerate launch --config_file accelerate_configs/multi_gpu.yaml --num_processes 8 scripts/train.py \
    --config scripts/recipes/squad_v2.yaml"""

from qa_accel import clock, signals

started = clock.Clock()
signals.listen(signals.BEFORE_TRAINING)  # before the seconds that importing torch takes

from qa_accel import config, runtime, train  # noqa: E402

if __name__ == "__main__":
    started.ends("imports")
    runtime.run(lambda: train.run(config.parse(train.TrainConfig, description=__doc__), started))
