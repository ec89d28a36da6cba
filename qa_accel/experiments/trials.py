"""A sweep's folder: its plan (`sweep.json`) and its trials (`trial-N/trial.json`), read and written. No torch.

    sweep.json                     what is searched; the same for all workers
    trial-N/                       the folder of a usual training run, and trial.json
    confirm-R/seed-S/              the same for a further seed of the trial in place R

A trial's file is written by the worker that holds its claim, and appears whole.
"""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qa_accel import files
from qa_accel.experiments.space import Parameter
from qa_accel.input_files import read_json
from qa_accel.messages import shown

PLAN = "sweep.json"
TRIAL = "trial.json"
RUNNING, FINISHED, PRUNED, FAILED = STATES = ("running", "finished", "pruned", "failed")


@dataclass(frozen=True)
class SweepPlan:
    """What is searched and how; no worker may differ in it."""

    sampler: str
    seed: int
    trials: int
    metric: str
    space: tuple[Parameter, ...]
    fixed: dict[str, Any]
    """Setting -> value in all trials."""
    launcher: tuple[str, ...]
    """Words of the command before the training script."""
    pruner: str = "median"
    confirm_seeds: int = 2

    def as_dict(self) -> dict[str, Any]:
        found = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return found | {"space": [one.as_dict() for one in self.space], "launcher": list(self.launcher)}


@dataclass(frozen=True)
class Trial:
    """One training run of a sweep."""

    number: int
    """Of a confirmation: that of the trial whose settings it has."""
    state: str
    """One of STATES. `running` too if its worker was stopped or killed: then nobody holds its claim."""
    params: dict[str, Any]
    """Setting -> value, of the settings that are searched."""
    value: float | None = None
    """The metric's: of the finished run, or at the last evaluation of a pruned one."""
    evaluations: list[list[float]] = field(default_factory=list)
    """[step, value of the metric] of each evaluation."""
    owner: dict[str, Any] = field(default_factory=dict)
    """The worker that had it last: host, pid, and under Slurm job and array_task."""
    starts: int = 0
    """How often the run was started, resumes included."""
    began: float | None = None
    """Seconds since 1970."""
    ended: float | None = None
    reason: str | None = None
    """Why it failed or was pruned."""
    confirms: int | None = None
    """Of a confirmation: the trial whose settings it has."""
    seed: int | None = None
    """Of a confirmation: its seed of training."""

    @property
    def has_ended(self) -> bool:
        return self.state != RUNNING


def folder_of(sweep: Path, number: int) -> Path:
    return sweep / f"trial-{number}"


def confirmation_folder(sweep: Path, place: int, seed: int) -> Path:
    """`place`: 1 is the best trial."""
    return sweep / f"confirm-{place}" / f"seed-{seed}"


def read_plan(folder: Path) -> SweepPlan:
    """Raises ValueError if the folder is not that of a sweep, or its plan is damaged."""
    path = folder / PLAN
    if not path.exists():
        raise ValueError(f"{folder} is not the folder of a sweep: it has no {PLAN}")
    found = _mapping(path)
    if found.get("direction") == "maximize":  # former plans say it; higher is always better
        del found["direction"]
    try:
        space = tuple(map(Parameter.from_dict, found["space"]))
        return SweepPlan(**{**found, "space": space, "launcher": tuple(found["launcher"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: is not a sweep's plan ({error}); it is written by scripts/sweep.py") from error


def read_trials(folder: Path) -> list[Trial]:
    """All trials that were ever begun, by number. Raises ValueError with the name of a damaged file."""
    found = [path.parent for path in folder.glob(f"trial-*/{TRIAL}") if re.fullmatch("trial-[0-9]+", path.parent.name)]
    return sorted((read_trial(path) for path in found), key=lambda trial: trial.number)


def read_confirmations(folder: Path) -> list[Trial]:
    """The runs with further seeds, by place and seed."""
    found = folder.glob(f"confirm-*/seed-*/{TRIAL}")
    return [read_trial(path.parent) for path in sorted(found, key=lambda path: _numbers(path.relative_to(folder)))]


def read_trial(folder: Path) -> Trial:
    """`folder/trial.json`."""
    path = folder / TRIAL
    found = _mapping(path)
    try:
        trial = Trial(**found)
        valid = type(trial.number) is int and trial.state in STATES and isinstance(trial.params, dict)
        valid = valid and isinstance(trial.owner, dict) and type(trial.starts) is int
        valid = valid and (trial.value is None or type(trial.value) in (int, float))
        valid = valid and all(len(pair) == 2 for pair in trial.evaluations)
    except TypeError as error:
        raise ValueError(f"{path}: is not a trial ({error}); {_REMEDY}") from error
    if not valid:
        raise ValueError(f"{path}: is not a trial, but {shown(found)}; {_REMEDY}")
    return trial


_REMEDY = "delete the file: a worker then begins the trial again, from its last checkpoint if there is one"


def write_trial(folder: Path, trial: Trial) -> None:
    """Replace `folder/trial.json`."""
    files.write_json(folder / TRIAL, dataclasses.asdict(trial))


def write_plan(folder: Path, plan: SweepPlan) -> None:
    files.write_json(folder / PLAN, plan.as_dict())


def best_first(trials: Iterable[Trial]) -> list[Trial]:
    """The finished ones by value, the best first; of equal ones the earlier."""
    valued = [(trial.value, trial) for trial in trials if trial.state == FINISHED and trial.value is not None]
    return [trial for _, trial in sorted(valued, key=lambda pair: (-pair[0], pair[1].number))]


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", str(path))))


def _mapping(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a mapping, found {shown(found)}")
    return found
