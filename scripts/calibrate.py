"""python scripts/calibrate.py --model_name_or_path runs/squad_v2 --validation_file dev.json"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("calibrate")
