"""python scripts/learning_curve.py --recipe scripts/recipes/quickstart.yaml --output_dir runs/curve"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("learning_curve")
