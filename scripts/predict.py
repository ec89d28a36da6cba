"""accelerate launch scripts/predict.py --model_name_or_path runs/squad_v2 --test_file questions.json --output_dir runs/answers"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("predict")
