"""accelerate launch scripts/predict.py --model_name_or_path runs/squad_v2 --test_file questions.json --output_dir runs/answers"""

from qa_accel import config
from qa_accel.distributed import accelerator as runtime
from qa_accel.inference import reader as answer

if __name__ == "__main__":
    runtime.run(lambda: answer.run(config.parse(answer.PredictConfig, description=__doc__)))
