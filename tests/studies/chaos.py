"""Training runs that are killed at random moments, with all their processes, and started again until they finish.

    python tests/studies/chaos.py --kills 200

Each process runs scripts/train.py itself, forked with its imports done: a kill falls into what the script does, not into the
seconds of importing torch. A finished run must be, to the bit, one that was never killed; anything else is a lost run.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import run, script
from toy import WINDOWS, Toy, flags, make_toy
from training_runs import lines_of, results_of, weights_of

REPOSITORY = Path(__file__).resolve().parents[2]

LAYOUTS: dict[str, dict[str, Any]] = {
    "1 process": dict(processes=1, per_device_train_batch_size=4, gradient_accumulation_steps=2),
    "2 processes": dict(processes=2, per_device_train_batch_size=4),
    "1 process, packed": dict(processes=1, per_device_train_batch_size=8, batching="packed"),
    "2 processes, packed": dict(processes=2, per_device_train_batch_size=4, batching="packed"),
}
AFTER_THE_END = {"report.html", "error_analysis.json"}
"""A run has finished when it writes these: a kill in between leaves it without, and scripts/report.py writes them."""
FILES = ("predictions.json", "nbest_predictions.json", "null_odds.json", "config.json", "data_report.json")


@dataclass
class Summary:
    kills: int = 0
    resumes: int = 0
    """Starts that went on from a checkpoint."""
    finished: Counter = field(default_factory=Counter)
    where: Counter = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"kills survived: {self.kills} ({', '.join(f'{n} {place}' for place, n in self.where.most_common())})"]
        lines += [f"resumes from a checkpoint: {self.resumes}"]
        lines += [f"runs finished: {', '.join(f'{n} with {layout}' for layout, n in self.finished.items())}"]
        return "\n".join([*lines, f"lost runs: {len(self.lost)}", *self.lost])


def run_for(toy: Toy, folder: Path, cache: Path, layout: str, seconds: float) -> tuple[bool, str]:
    """The same command every time, killed with all of its processes after this time. Whether it was, and what it wrote.

    A run that was killed when all was done but for leaving is refused as finished, and rightly so.
    """
    settings: dict[str, Any] = dict(model_name_or_path=toy.model, train_file=toy.train, validation_file=toy.dev)
    settings |= dict(output_dir=folder, cache_dir=cache, learning_rate=1e-2, logging_steps=2, n_best_size=4, **WINDOWS)
    settings |= dict(save_steps=2, eval_steps=3, save_total_limit=2, num_train_epochs=3) | LAYOUTS[layout]
    processes = settings.pop("processes")
    try:
        left = run(script, REPOSITORY / "scripts" / "train.py", flags(**settings), processes=processes, limit=seconds)
    except TimeoutError as killed:
        return True, str(killed)
    if left[0].code == 2 and "holds a finished run" in left[0].output:
        for late in ("best", "ranks"):  # they are deleted after all_results.json is written
            shutil.rmtree(folder / late, ignore_errors=True)
        return False, left[0].output
    for rank, one in enumerate(left):
        assert one.code == 0, f"rank {rank} left with {one.code}:\n{one.output}"
    return False, left[0].output


def place_of(folder: Path) -> str:
    """What the run was doing when it was killed, from what it left behind."""
    if list(folder.glob(".partial-checkpoint*")):
        return "in a checkpoint's save"
    if list(folder.glob(".partial-best*")):
        return "in the best model's save"
    if not (folder / "metrics.jsonl").exists():
        return "before training"
    lines = lines_of(folder)
    if not (folder / "all_results.json").exists() and lines and lines[-1]["step"] % 3 == 0 and "loss" in lines[-1]:
        return "in an evaluation"
    return "when all was written" if (folder / "all_results.json").exists() else "in training or at a start"


def differences(folder: Path, whole: Path) -> list[str]:
    """Names of what a finished run has otherwise than the one that was never killed."""
    found = [name for name in FILES if (folder / name).read_bytes() != (whole / name).read_bytes()]
    weights, expected = weights_of(folder), weights_of(whole)
    found += [name for name, weight in expected.items() if not weight.equal(weights[name])]
    found += ["metrics.jsonl"] if lines_of(folder) != lines_of(whole) else []
    found += ["all_results.json"] if results_of(folder) != results_of(whole) else []
    names = [{path.name for path in one.iterdir()} for one in (folder, whole)]
    return found + [f"the file {name}" for name in sorted((names[0] ^ names[1]) - AFTER_THE_END)]


def chaos(kills: int, seed: int, place: Path, say=print) -> Summary:
    """Kill runs so many times in all, in turn in each layout, until each of them is finished."""
    rng, summary, toy = random.Random(seed), Summary(), make_toy(place)
    whole, layouts, cache = {}, sorted(LAYOUTS), place / "cache-of-runs"
    for layout in layouts:
        whole[layout] = place / "whole" / layout
        run_for(toy, whole[layout], place / "cache", layout, 600)
    longest = 2.0
    while summary.kills < kills:
        number = sum(summary.finished.values())
        layout, folder = layouts[number % len(layouts)], place / f"run-{number}"
        while True:
            if rng.random() < 0.2:  # the data is to be prepared again
                shutil.rmtree(cache, ignore_errors=True)
            done = summary.kills >= kills or (folder / "all_results.json").exists()
            seconds = 600 if done else rng.uniform(0.1, longest)
            try:
                killed, output = run_for(toy, folder, cache, layout, seconds)
            except AssertionError as error:
                summary.lost.append(f"{folder.name} ({layout}): {error}")
                break
            summary.resumes += "resumed from" in output
            if not killed:
                different = differences(folder, whole[layout])
                summary.lost += [f"{folder.name} ({layout}): differs in {', '.join(different)}"] if different else []
                longest *= 1 if done else 0.8  # however busy the machine is, most starts shall be killed
                break
            summary.kills += 1
            where = place_of(folder)
            longest *= 1.2 if where == "before training" else 1
            summary.where[where] += 1
            say(f"kill {summary.kills} after {seconds:.2f} s, {layout}: {where}")
        summary.finished[layout] += 1
        if not summary.lost:
            shutil.rmtree(folder)
    return summary


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        result = chaos(arguments.kills, arguments.seed, Path(folder))
    print(result)
    sys.exit(bool(result.lost))
