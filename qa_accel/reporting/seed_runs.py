"""Folders of runs that should differ in their seed alone -> in what else they differ.

Read from what a run leaves: config.yaml, environment.json (processes, device, precision) and data_report.json. No torch.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qa_accel import run_layout
from qa_accel.messages import listed
from qa_accel.reporting.comparison_sides import NEGATIVE, OF_MODEL
from qa_accel.reporting.local_places import PER_RUN, spelled
from qa_accel.reporting.run_files import read_object, read_settings

WITHOUT_EFFECT = {
    *("logging_steps", "save_steps", "save_minutes", "save_total_limit"),
    *("preprocessing_num_workers", "stop_signals", "ddp_timeout"),
}
"""Settings that change neither what a run learns nor how it is judged."""
SEED = "seed"
OF_TRAINING = " of the model's training"
"""End of a fact's name, in answers of a model that a run here has trained."""


@dataclass(frozen=True)
class SeedRun:
    name: str
    seed: Any
    """None where the folder does not say."""
    facts: Mapping[str, str]
    """What must be the same in all runs, each as a person may read it; empty if the folder has no config.yaml."""


def read_seed_run(folder: Path) -> SeedRun:
    """Raises ValueError for a file that is damaged."""
    settings = read_settings(folder / run_layout.SETTINGS)
    name = folder.absolute().name
    if not settings:
        return SeedRun(name, None, {})
    ignored = PER_RUN | WITHOUT_EFFECT | {SEED}
    if "learning_rate" not in settings:  # answers of models: there the model is what the seed has changed
        ignored |= OF_MODEL | {NEGATIVE}
    facts = {key: spelled(key, value) or "none" for key, value in settings.items() if key not in ignored}
    environment = read_object(folder / run_layout.ENVIRONMENT) or {}
    if "runs" in environment:
        facts["processes and precision"] = str(environment["runs"]).partition(", torch ")[0]
    facts |= _sizes(read_object(folder / run_layout.DATA_REPORT) or {})
    if "learning_rate" in settings:
        return SeedRun(name, settings.get(SEED), facts)
    trained = _training_of(settings.get("model_name_or_path"))
    return SeedRun(name, trained.seed, facts | {f"{key}{OF_TRAINING}": value for key, value in trained.facts.items()})


def _training_of(model: Any) -> SeedRun:
    """Of the model that gave answers, if it is a folder that a training run left."""
    try:
        folder = Path(model) if isinstance(model, str) and Path(model).is_dir() else None
    except (OSError, ValueError):  # a name that no folder can have
        folder = None
    if folder is None or "learning_rate" not in (read_settings(folder / run_layout.SETTINGS) or {}):
        return SeedRun(str(model), None, {})
    return read_seed_run(folder)


def differences(runs: Sequence[SeedRun]) -> list[str]:
    """A clause for each thing other than the seed in which the runs differ; runs without config.yaml are not compared."""
    known = [run for run in runs if run.facts]
    names = dict.fromkeys(name for run in known for name in run.facts)
    found = []
    for name in names:
        by_value = _grouped({run.name: run.facts.get(name, "not set") for run in known})
        if len(by_value) > 1:
            each = [f"{value} in {listed(named)}" for value, named in by_value.items()]
            found.append(f"{name} is {', '.join(each[:-1])} and {each[-1]}")
    return found


def same_seed(runs: Sequence[SeedRun]) -> list[str] | None:
    """Names of training runs, or of answers of their models, with one and the same seed, if there are any."""
    by_seed = _grouped({run.name: str(run.seed) for run in runs if run.seed is not None and _is_of_training(run)})
    return next((named for named in by_seed.values() if len(named) > 1), None)


def _is_of_training(run: SeedRun) -> bool:
    return "learning_rate" in run.facts or f"learning_rate{OF_TRAINING}" in run.facts


def _grouped(value_of: Mapping[str, Hashable]) -> dict[Any, list[str]]:
    groups: dict[Any, list[str]] = {}
    for name, value in value_of.items():
        groups.setdefault(value, []).append(name)
    return groups


def _sizes(data: Mapping[str, Any]) -> dict[str, str]:
    """Numbers of questions, windows and tokens of each split: files may have changed under the same name."""
    found = {}
    for split, report in data.items():
        for part, name in (("questions", "questions"), ("windows", "windows"), ("windows", "tokens")):
            number = report[part].get(name) if isinstance(report, dict) and isinstance(report.get(part), dict) else None
            if type(number) is int:
                found[f"number of {name} of {split}"] = f"{number:,}"
    return found
