"""Mean, spread and 95 % interval of each score over finished runs that differ in their seed and in nothing else."""

import importlib.util
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from qa_accel import files, run_layout
from qa_accel.answer_language import ENGLISH
from qa_accel.commands.settings.summary import SummaryConfig
from qa_accel.evaluation.significance import seed_interval
from qa_accel.input_files import read_json
from qa_accel.messages import listed, shown
from qa_accel.reporting.seed_runs import SeedRun, differences, read_seed_run, same_seed
from qa_accel.terminal import make_console, visible

SCORES = ("exact", "f1", "HasAns_f1", "NoAns_exact", "best_exact", "best_f1", "mean_exact", "mean_f1")
"""What is summed up, where the runs have it."""


Config = SummaryConfig


def run(settings: SummaryConfig) -> None:
    """Print the table, write the summary. Raises ValueError for a file that holds no scores, and for runs that differ in more
    than their seed."""
    if not settings.results:
        raise ValueError("give the all_results.json of at least one run")
    if folders := [path for path in settings.results if path.is_dir()]:
        raise ValueError(f"{folders[0]} is a folder; give the file in it: {folders[0] / run_layout.FINISHED}")
    # by the folder's name, without its path: the summary reads the same wherever the runs are
    names = [path.absolute().parent.name for path in settings.results]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"several results are of a run named {listed(twice)}; give each run once, and a name of its own"
        )
    scores = {name: read_scores(path) for name, path in zip(names, settings.results)}
    check_one_language(scores)
    # a copy of the scores under another name, or beside other files, says nothing of its run
    runs = [read_seed_run(path.parent) for path in settings.results if path.name == run_layout.FINISHED]
    check_seeds_alone_differ(runs)
    summed = summary(scores)
    if settings.output_file:
        files.write_json(settings.output_file, summed)
    console = make_console(soft_wrap=True)
    console.print(table(summed))
    for note in _notes(names, runs):
        console.print(visible(note))


def check_seeds_alone_differ(runs: Sequence[SeedRun]) -> None:
    """Raises ValueError with the difference, or with the seed that comes twice."""
    if found := differences(runs):
        raise ValueError(f"these runs differ in more than their seed: {'; '.join(found)}. Summarize them apart")
    if twice := same_seed(runs):
        raise ValueError(f"{listed(twice)} have the same seed: they are not independent; give each seed once")


def check_one_language(scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError where scores were made by the rules of several languages."""
    languages = {name: str(each.get("answer_language", ENGLISH)) for name, each in scores.items()}
    if len(set(languages.values())) > 1:
        said = ", ".join(f"{language} in {name}" for name, language in languages.items())
        raise ValueError(
            f"these scores were made with several values of --answer_language: {said}. Summarize them apart"
        )


def _notes(names: Sequence[str], runs: Sequence[SeedRun]) -> list[str]:
    known = {run.name for run in runs if run.facts}
    unknown = [name for name in names if name not in known]
    notes = []
    if unknown:
        notes.append(f"not compared, for want of a {run_layout.SETTINGS} beside the scores: {listed(unknown)}")
    if len(names) > 1 and not _has_scipy():
        notes.append("the 95 % interval needs scipy: pip install 'qa-accel[report]'")
    return notes


def _has_scipy() -> bool:
    return importlib.util.find_spec("scipy") is not None


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
    """For each score that all runs have: mean, sample standard deviation (None of one run), standard error, 95 % interval of the
    mean by Student's t (None where it is unknown, or without scipy), range, values."""
    scores = {}
    for name in SCORES:
        values = [run[name] for run in runs.values() if name in run]
        if len(values) == len(runs):
            scores[name] = _spread(values)
    language = next(iter(runs.values())).get("answer_language")
    named = {} if language is None else {"answer_language": language}
    return {"runs": list(runs), **named, "scores": scores}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    interval = seed_interval(values) if _has_scipy() else None
    return {
        "mean": statistics.fmean(values),
        "std": deviation,
        "standard_error": None if deviation is None else deviation / math.sqrt(len(values)),
        "interval_95": None if interval is None else list(interval),
        "min": min(values),
        "max": max(values),
        "values": list(values),
    }


def table(summed: Mapping[str, Any]) -> Table:
    """A line per score."""
    language = f", answer language {summed['answer_language']}" if "answer_language" in summed else ""
    shown = Table(title=f"{len(summed['runs'])} runs{language}", title_justify="left")
    shown.add_column("score")
    for name in ("mean", "std", "95 % interval", "min", "max"):
        shown.add_column(name, justify="right")
    for name, spread in summed["scores"].items():
        mean, deviation, least, most = (
            "" if spread[key] is None else f"{spread[key]:.2f}" for key in ("mean", "std", "min", "max")
        )
        interval = spread["interval_95"]
        shown.add_row(
            name, mean, deviation, "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}", least, most
        )
    return shown
