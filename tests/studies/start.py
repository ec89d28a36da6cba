"""python tests/studies/start.py --model runs/quickstart [--onnx_model runs/onnx] [--before OTHER_CHECKOUT] [--repeats 5]

How long commands take to start: help, a refused value, a score, a first answer, a first optimizer step with and without its
cache. Every command is a process of its own, with one thread. Prints a table: median seconds on the clock and of the processor.
With --before the same commands run in another checkout, in turns, so that the machine's other work meets both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
READ = "from qa_accel import Reader; print(Reader({model!r}{more}).answer('Where was Ana born?', 'Ana was born in Bern.')['text'])"


@dataclass(frozen=True)
class Start:
    """A command, whose start ends with the process or, if it is given, with the first byte of a file."""

    name: str
    words: tuple[str, ...]
    until: Path | None = None
    exit_code: int = 0


def starts(model: str, onnx_model: str | None, folder: Path) -> list[Start]:
    gold = [{"id": "1", "answers": {"text": ["Bern"], "answer_start": [16]}}]
    (folder / "gold.json").write_text(json.dumps(gold))
    (folder / "predictions.json").write_text(json.dumps({"1": "Bern"}))
    score = ("--validation_file", str(folder / "gold.json"), "--predictions_file", str(folder / "predictions.json"))
    recipe = ("--config", "scripts/recipes/quickstart.yaml", "--logging_steps", "1", "--overwrite_output_dir")
    train = ("scripts/train.py", *recipe, "--output_dir", str(folder / "run"))
    first_step = folder / "run" / "metrics.jsonl"
    exported = READ.format(model=onnx_model, more=", backend='onnx'")
    return [
        Start("`train.py --help`", ("scripts/train.py", "--help")),
        Start("`train.py`, a value out of range", (*train, "--learning_rate", "-1"), exit_code=2),
        Start("`score.py`, one question", ("scripts/score.py", *score)),
        Start("`Reader`, to its first answer", ("-c", READ.format(model=model, more=""))),
        *([Start("the same, exported, with `backend='onnx'`", ("-c", exported))] if onnx_model else []),
        Start("`train.py` to its first step, cached", (*train, "--cache_dir", str(folder / "cache")), first_step),
        Start("`train.py` to its first step, no cache", (*train, "--cache_dir", str(folder / "NEW")), first_step),
    ]


def seconds_of(start: Start, checkout: Path, round_: str) -> tuple[float, float]:
    """On the clock and of the processor."""
    if start.until is not None:
        start.until.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = [word.replace("NEW", round_) for word in start.words]
    began, before = time.perf_counter(), os.times()
    process = subprocess.Popen(
        [sys.executable, *words], cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if start.until is None:
        output, _ = process.communicate()
        assert process.returncode == start.exit_code, output.decode()
    else:
        while not (start.until.exists() and start.until.stat().st_size):
            assert process.poll() is None, process.communicate()[0].decode()
            time.sleep(0.01)
    passed = time.perf_counter() - began
    if process.poll() is None:
        process.kill()
        process.communicate()
    after = os.times()
    return (
        passed,
        after.children_user + after.children_system - before.children_user - before.children_system,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a fine-tuned model")
    parser.add_argument("--onnx_model", help="folder that scripts/export.py wrote")
    parser.add_argument("--before", type=Path, help="another checkout of this repository")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    checkouts = [given.before.resolve(), HERE] if given.before else [HERE]
    print("| start | " + " | ".join(["before: clock, processor", "now: clock, processor"][-len(checkouts) :]) + " |")
    print("| --- |" + " --- |" * len(checkouts))
    with tempfile.TemporaryDirectory() as folder:
        onnx_model = str(Path(given.onnx_model).resolve()) if given.onnx_model else None
        for start in starts(str(Path(given.model).resolve()), onnx_model, Path(folder)):
            found: dict[Path, list[tuple[float, float]]] = {checkout: [] for checkout in checkouts}
            for repeat in range(given.repeats + 1):  # the first one warms files and caches
                for checkout in checkouts:
                    seconds = seconds_of(start, checkout, f"new-{repeat}-{checkouts.index(checkout)}")
                    found[checkout] += [seconds] if repeat else []
            cells = [
                ", ".join(f"{statistics.median(each):.2f} s" for each in zip(*found[checkout]))
                for checkout in checkouts
            ]
            print(f"| {start.name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
