"""python scripts/score.py --validation_file dev.json --predictions_file runs/answers/predictions.json"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("score")
