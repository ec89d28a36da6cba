"""Mean and spread of each score over finished runs that differ in their seed.

python scripts/summary.py runs/seeds/seed-*/all_results.json --output_file runs/seeds/summary.json

Prints a table and, with --output_file, writes JSON. No torch, no network.
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from qa_accel import files
from qa_accel.input_files import read_json
from qa_accel.messages import listed, shown
from qa_accel.terminal import make_console

SCORES = ("exact", "f1", "HasAns_f1", "NoAns_exact", "best_exact", "best_f1")
"""What is summed up, where the runs have it."""


@dataclass(frozen=True)
class SummaryConfig:
    results: tyro.conf.Positional[tuple[Path, ...]]
    """all_results.json of each run."""
    output_file: Path | None = None
    """Where to write the summary as JSON."""


Config = SummaryConfig


def run(settings: SummaryConfig) -> None:
    """Print the table, write the summary. Raises ValueError for a file that holds no scores."""
    if not settings.results:
        raise ValueError("give the all_results.json of at least one run")
    # by the folder's name, without its path: the summary reads the same wherever the runs are
    names = [path.absolute().parent.name for path in settings.results]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"several results are of a run named {listed(twice)}; give each run once, and a name of its own"
        )
    summed = summary({name: read_scores(path) for name, path in zip(names, settings.results)})
    if settings.output_file:
        files.write_json(settings.output_file, summed)
    make_console().print(table(summed))


def read_scores(path: Path) -> dict[str, Any]:
    """A run's all_results.json. Raises ValueError where it is none, or of a run that was not evaluated."""
    scores = read_json(path)
    if not isinstance(scores, dict) or "f1" not in scores:
        raise ValueError(f"{path}: has no scores; give the runs a --validation_file")
    for name in SCORES:
        value = scores.get(name, 0.0)
        if type(value) not in (int, float) or not 0 <= value <= 100:
            raise ValueError(f"{path}: {name} is {shown(value)}; a number from 0 to 100 is expected")
    return scores


def summary(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """For each score that all runs have: mean, sample standard deviation (None of one run), standard error, range, values."""
    scores = {}
    for name in SCORES:
        values = [run[name] for run in runs.values() if name in run]
        if len(values) == len(runs):
            scores[name] = _spread(values)
    return {"runs": list(runs), "scores": scores}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {
        "mean": statistics.fmean(values),
        "std": deviation,
        "standard_error": None if deviation is None else deviation / math.sqrt(len(values)),
        "min": min(values),
        "max": max(values),
        "values": list(values),
    }


def table(summed: Mapping[str, Any]) -> Table:
    """A line per score."""
    shown = Table(title=f"{len(summed['runs'])} runs", title_justify="left")
    shown.add_column("score")
    for name in ("mean", "std", "min", "max"):
        shown.add_column(name, justify="right")
    for name, spread in summed["scores"].items():
        numbers = (spread[key] for key in ("mean", "std", "min", "max"))
        shown.add_row(name, *("" if number is None else f"{number:.2f}" for number in numbers))
    return shown
