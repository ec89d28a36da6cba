"""python scripts/summary.py runs/seeds/seed-*/all_results.json --output_file runs/seeds/summary.json"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("summary")
