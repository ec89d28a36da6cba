"""python tests/studies/growth.py

Seconds and memory a question of what is done once for all questions, at several numbers of them: preparing, finding prepared data,
planning an epoch, rank 0's part of predict.py (candidates into answers, files and scores), and train.py from its start to its first
step on prepared windows. Seconds a question are those of the processor, which other work on the machine affects less; "first step"
has those of the whole run, and of its wall time the part to the first step. Questions are copies of the quickstart's, with other ids and contexts; candidates are random, the model
is tiny. Each line is a process of its own. "private" is the most memory that no file backs (RssAnon) beyond what the process had
before, "resident" its ru_maxrss, mapped files included. At 5 M questions the cache takes some 40 GB of disk.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from corpus_memory import private_memory
from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE, TOKENIZER = REPOSITORY / "quickstart" / "train.json.gz", REPOSITORY / "quickstart" / "encoder"
PARTS = ("prepare", "prepared", "plan, padded", "plan, packed", "results", "first step")
RANDOM_ROWS = 4096  # candidates drawn at a time
SETTINGS = ("--per_device_train_batch_size", "16", "--max_train_steps", "1", "--seed", "1")


def write_questions(path: Path, count: int) -> None:
    """JSON lines, one copy of the source after the other: each has ids and contexts of its own."""
    with gzip.open(SOURCE) as file:
        paragraphs = [paragraph for article in json.load(file)["data"] for paragraph in article["paragraphs"]]
    with path.open("w", encoding="utf-8") as file:
        for number, (copy, paragraph, asked) in zip(range(count), _rows(paragraphs)):
            context = f"{paragraph['context']} This is copy {copy}."
            row = {"id": f"{number}", "question": asked["question"], "context": context}
            answers = {name: [each[name] for each in asked["answers"]] for name in ("text", "answer_start")}
            file.write(json.dumps(row | {"answers": answers}) + "\n")


def _rows(paragraphs: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    copy = 0
    while True:
        for paragraph in paragraphs:
            for asked in paragraph["qas"]:
                yield copy, paragraph, asked
        copy += 1


def make_model(folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForQuestionAnswering

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    torch.manual_seed(0)
    size: Any = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **size)
    BertForQuestionAnswering(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prepared_split(folder: Path) -> Any:
    from transformers import AutoTokenizer

    from qa_accel.data.settings import DataConfig, WindowConfig
    from qa_accel.data.splits import prepare_split
    from qa_accel.inference.settings import SpanConfig

    data = DataConfig(train_file=(str(folder / "questions.jsonl"),), cache_dir=str(folder / "cache"))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    longest = SpanConfig().max_answer_length
    return prepare_split(data, WindowConfig(), tokenizer, "train", max_answer_length=longest)


def plan(folder: Path, *, packed: bool) -> Callable[[], None]:
    from qa_accel.training.epochs import EpochPlans
    from qa_accel.training.part_settings import LoopConfig

    lengths_W = np.array(prepared_split(folder).windows.lengths_W)
    return lambda: (EpochPlans(LoopConfig(), lengths_W, seed=1, world_size=8, packed=packed).plan(0), None)[1]


def results(folder: Path) -> Callable[[], None]:
    """Rows of candidates as they come from the ranks, then all that rank 0 does with them."""
    from qa_accel.commands.answer_results import write_results
    from qa_accel.inference.postprocess import best_answers
    from qa_accel.inference.settings import SpanConfig
    from qa_accel.inference.window_rows import WindowRows, columns

    split, config, random = prepared_split(folder), SpanConfig(), np.random.default_rng(0)
    windows = split.windows

    def some_rows(first: int) -> np.ndarray:
        index_B = np.arange(first, min(first + RANDOM_ROWS, len(windows)))
        words_B1 = (windows.context_end_W - windows.context_begin_W)[index_B, None]
        shape = (len(index_B), config.n_best_size)
        start_BK = windows.context_begin_W[index_B, None] + (random.random(shape) * words_B1).astype(np.int32)
        end_BK = np.minimum(start_BK + random.integers(0, 8, shape), windows.context_end_W[index_B, None] - 1)
        logits = random.normal(size=(len(index_B), 4 + 2 * config.n_best_size)).astype(np.float32).view(np.int32)
        rows_BC = np.concatenate([index_B[:, None], logits[:, :4], start_BK, end_BK, logits[:, 4:]], axis=1)
        assert rows_BC.shape[1] == columns(config)
        return rows_BC.astype(np.int32)

    def go() -> None:
        found = WindowRows(len(windows), config)
        for first in range(0, len(windows), RANDOM_ROWS):
            found.place(some_rows(first))
        answers = best_answers(split.questions, windows, found.candidates(), config, version_2_with_negative=True)
        quiet = Console(quiet=True)
        write_results(folder / "answers", quiet, answers, split, 0.0, None, version_2_with_negative=True)

    return go


def measure(part: str, folder: Path) -> None:
    """Prints the seconds and bytes of one part."""
    import qa_accel.data.splits
    import qa_accel.training.epochs  # noqa: F401

    work: Callable[[], Any] = partial(prepared_split, folder)
    if part == "results":
        work = results(folder)
    elif part.startswith("plan"):
        work = plan(folder, packed=part == "plan, packed")
    before, most, ended = private_memory(os.getpid()), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            most[0] = max(most[0], private_memory(os.getpid()))

    watching = threading.Thread(target=watch)
    watching.start()
    began, began_cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    most[0] = max(most[0], private_memory(os.getpid()))
    ended.set()
    watching.join()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "private": most[0] - before, "resident": resident}))


def first_step(folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """train.py on prepared windows, its own time up to the end of the first step; memory of the whole run."""
    place = folder / "run"
    files = ["--model_name_or_path", folder / "model", "--train_file", folder / "questions.jsonl"]
    words = [*files, "--cache_dir", folder / "cache", "--output_dir", place, "--overwrite_output_dir", *SETTINGS]
    command = [sys.executable, REPOSITORY / "scripts" / "train.py", *words]
    process = subprocess.Popen(list(map(str, command)), cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    private = 0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        private = max(private, private_memory(process.pid))
        time.sleep(0.05)
    _, status, used = ended
    assert status == 0, "train.py failed"
    stages = json.loads((place / "all_results.json").read_text())["seconds_of"]
    before = sum(stages.get(stage, 0.0) for stage in ("start", "data", "model", "first step"))
    cpu, resident = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    return {"seconds": before, "cpu": cpu, "private": private, "resident": resident}


def measured(part: str, folder: Path) -> dict[str, float]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)}
    if part == "first step":
        return first_step(folder, environment)
    words = [sys.executable, __file__, "--of_part", part, str(folder)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[126_000, 1_000_000, 5_000_000])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--folder", type=Path, help="for the data, which stays there and is used again")
    parser.add_argument("--of_part", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    if arguments.of_part:
        measure(arguments.of_part[0], Path(arguments.of_part[1]))
        return
    table = Table(title="By number of questions")
    for column in (
        "part",
        "questions",
        "seconds",
        "CPU s",
        "us a question",
        "private MB",
        "bytes a question",
        "resident MB",
    ):
        table.add_column(column, justify="left" if column == "part" else "right")
    with tempfile.TemporaryDirectory() as place:
        for count in arguments.questions:
            folder = (arguments.folder or Path(place)) / str(count)
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "model").is_dir():
                write_questions(folder / "questions.jsonl", count)
                make_model(folder / "model")
            for part in PARTS:
                if part not in arguments.parts:
                    continue
                found = measured(part, folder)
                cpu, private = found["cpu"], found["private"]
                figures = [
                    f"{found['seconds']:,.1f}",
                    f"{cpu:,.1f}",
                    f"{1e6 * cpu / count:,.1f}",
                    f"{private / 1e6:,.0f}",
                ]
                figures += [f"{private / count:,.0f}", f"{found['resident'] / 1e6:,.0f}"]
                table.add_row(part, f"{count:,}", *figures)
                print(part, count, found, flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
