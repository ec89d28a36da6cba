"""python scripts/serve.py --model runs/squad_v2"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("serve")
