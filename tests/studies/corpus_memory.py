"""python tests/studies/corpus_memory.py

Memory of `predict --shard_output` on corpora of 1, 10 and 100 times a size: private memory (RssAnon) of the process with the
model and of the one that tokenizes and writes, the most of either. The model is the tests' toy; each corpus has as many passages
as a fifth of its questions, and the last column is the same with a passage table.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from corpora import corpus_flags
from toy import NAMES, context_about, flags, make_toy, questions_about

REPOSITORY = Path(__file__).resolve().parents[2]
MB = 10**6
ROWS = 10_000  # per row group of the corpus


def write(folder: Path, questions: int) -> None:
    """questions.parquet with contexts, by_id.parquet with their ids, passages.parquet with the passages; in bounded memory."""
    folder.mkdir()
    kinds = [(name, question["question"]) for name in NAMES for question in questions_about(name, "")]
    text = pa.string()
    whole = pa.schema([("id", text), ("question", text), ("context", text)])
    by_id = pa.schema([("id", text), ("question", text), ("context_id", text)])
    passages = pa.schema([("id", text), ("text", text)])
    with (
        pq.ParquetWriter(folder / "questions.parquet", whole) as one,
        pq.ParquetWriter(folder / "by_id.parquet", by_id) as two,
        pq.ParquetWriter(folder / "passages.parquet", passages) as three,
    ):
        for first in range(0, questions, ROWS):
            numbers = range(first, min(questions, first + ROWS))
            ids, asked = list(map(str, numbers)), [kinds[number % len(kinds)] for number in numbers]
            texts = [f"{context_about(name)} It was day {number // 5}." for number, (name, _) in zip(numbers, asked)]
            one.write_table(pa.table([ids, [question for _, question in asked], texts], whole))
            keys = [f"passage {number // 5}" for number in numbers]
            two.write_table(pa.table([ids, [question for _, question in asked], keys], by_id))
            three.write_table(pa.table([keys[::5], texts[::5]], passages))


def private_memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:  # it has just ended
            continue
    return found


def peak(words: list[str]) -> tuple[float, float, float]:
    """MB of the process and of its worker, and the seconds of the run."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "scripts/predict.py", *words], cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL
    )
    own = worker = 0
    while process.poll() is None:
        own = max(own, private_memory(process.pid))
        worker = max([worker, *map(private_memory, children(process.pid))])
        time.sleep(0.05)
    assert process.returncode == 0, words
    return own / MB, worker / MB, time.monotonic() - began


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=4_000, help="of the smallest corpus")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100])
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    with tempfile.TemporaryDirectory() as place:
        toy = make_toy(Path(place))
        for times in arguments.times:
            folder = Path(place) / str(times)
            write(folder, times * arguments.questions)
            kinds = {"contexts": "questions", "passage table": "by_id"}
            for kind, name in kinds.items():
                words = corpus_flags(
                    toy, folder / f"{name}.parquet", folder / name, piece_megabytes=1, cache_dir=folder / "cache"
                )
                table = flags(passages_file=folder / "passages.parquet") if name == "by_id" else []
                own, worker, seconds = peak([*words, *table])
                print(
                    f"{times * arguments.questions:>9,} questions, {kind:<13}: {own:6.0f} MB with the model, {worker:6.0f} MB "
                    f"tokenizing, {seconds:5.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
