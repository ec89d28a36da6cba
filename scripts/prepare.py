"""python scripts/prepare.py --config scripts/recipes/squad_v2.yaml"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("prepare")
