"""python scripts/report.py runs/squad_v2"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("report")
