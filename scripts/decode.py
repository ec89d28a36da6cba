"""python scripts/decode.py runs/answers --output_dir runs/decoded --null_score_diff_threshold -1"""

from qa_accel.cli import main

if __name__ == "__main__":
    main("decode")
