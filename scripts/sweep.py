"""python scripts/sweep.py --space scripts/spaces/quickstart.yaml --trials 64 --output_dir runs/sweep"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("sweep")
