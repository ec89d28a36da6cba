"""python scripts/ensemble.py runs/seed-1 runs/seed-2 runs/seed-3 --output_dir runs/ensemble"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("ensemble")
