"""python scripts/bench.py --model minilm --compare"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("bench")
