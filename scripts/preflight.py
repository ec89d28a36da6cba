"""accelerate launch --config_file accelerate_configs/multi_gpu.yaml --num_processes 8 scripts/preflight.py --config scripts/recipes/squad_v2.yaml"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("preflight")
