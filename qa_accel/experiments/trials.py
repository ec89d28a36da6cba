"""A sweep's folder: its plan (`sweep.json`) and its trials (`trial-N/trial.json`), read and written. No torch.

    sweep.json                     what is searched; the same for all workers
    trial-N/                       the folder of a usual training run, and trial.json
    confirm-R/seed-S/              the same for a further seed of the trial in place R

A trial's file is written by the worker that holds its claim, and appears whole.
"""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qa_accel import files
from qa_accel.experiments.space import Parameter
from qa_accel.input_files import read_json
from qa_accel.messages import short, shown
from qa_accel.run_layout import BEST, SWEEP_PLAN

TRIAL = "trial.json"
RUNNING, FINISHED, PRUNED, FAILED = STATES = ("running", "finished", "pruned", "failed")

Metric = Literal[
    "f1",
    "exact",
    "best_f1",
    "best_exact",
    "HasAns_f1",
    "HasAns_exact",
    "NoAns_exact",
    "mean_f1",
    "mean_exact",
    "multi_exact_f1",
    "best_multi_exact_f1",
    "aupr",
]
"""Scores of a run that can be searched for; higher is better."""
CONFIRMED = 3
"""Trials, the best ones, that are run again with further seeds."""


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
    path = folder / SWEEP_PLAN
    if not path.exists():
        raise ValueError(f"{folder} is not the folder of a sweep: it has no {SWEEP_PLAN}")
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
    return [read_trial(path) for path in trial_folders(folder)]


def read_confirmations(folder: Path) -> list[Trial]:
    """The runs with further seeds, by place and seed."""
    return [read_trial(path) for path in confirmation_folders(folder)]


def whole_trials(folder: Path) -> list[Trial]:
    """As `read_trials`, without those whose file is damaged."""
    found = []
    for path in trial_folders(folder):
        with contextlib.suppress(ValueError):
            found.append(read_trial(path))
    return found


def trial_folders(folder: Path) -> list[Path]:
    """Those of all trials that were ever begun, by number."""
    found = [path.parent for path in folder.glob(f"trial-*/{TRIAL}") if re.fullmatch("trial-[0-9]+", path.parent.name)]
    return sorted(found, key=lambda path: _numbers(path.relative_to(folder)))


def confirmation_folders(folder: Path) -> list[Path]:
    """Those of the runs with further seeds, by place and seed."""
    found = [path.parent for path in folder.glob(f"confirm-*/seed-*/{TRIAL}")]
    found = [path for path in found if re.fullmatch("confirm-[0-9]+/seed-[0-9]+", str(path.relative_to(folder)))]
    return sorted(found, key=lambda path: _numbers(path.relative_to(folder)))


def folder_to_confirm(sweep: Path, number: int, place: int, seed: int) -> Path:
    """For a further seed of this trial, now in this place. A place that has another trial's runs, of a ranking that is no
    longer so, keeps them: then it is the trial's earlier place, or the next free one."""
    of_place: dict[int, int | None] = {}
    for path in confirmation_folders(sweep):
        of_place[_numbers(Path(path.parent.name))[0]] = read_trial(path).confirms
    known = next((found for found, confirmed in of_place.items() if confirmed == number), None)
    if known is None:
        known = next(free for free in itertools.count(place) if free not in of_place)
    return confirmation_folder(sweep, known, seed)


def read_trial(folder: Path) -> Trial:
    """`folder/trial.json`. Values that are no finite number, as of a model that diverged, are left out.

    Raises ValueError, with the file, for what no worker writes, and for what belongs into another folder.
    """
    path = folder / TRIAL
    found = _mapping(path)
    try:
        trial = Trial(**found)
    except TypeError as error:
        raise ValueError(f"{path}: is not a trial ({error}); {_REMEDY}") from error
    if (wrong := _wrong(trial)) is not None:
        raise ValueError(f"{path}: is not a trial: {wrong} is {shown(found.get(wrong))}; {_REMEDY}")
    [expected] = _numbers(Path(folder.name)) or (None,)
    name, given = ("number", trial.number) if trial.confirms is None else ("seed", trial.seed)
    if folder.name.startswith(("trial-", "seed-")) and given != expected:
        raise ValueError(
            f"{path}: is of another folder: its {name} is {given}, that of its folder {expected}; {_REMEDY}"
        )
    value = trial.value if is_finite(trial.value) else None
    return dataclasses.replace(
        trial, value=value, evaluations=[pair for pair in trial.evaluations if all(map(is_finite, pair))]
    )


def _wrong(trial: Trial) -> str | None:
    """The first entry that no worker writes."""

    def texts(entry: str) -> bool:
        return isinstance(trial.owner.get(entry), str | None)

    numbers, count = (int, float), trial.starts
    valid = {
        "number": type(trial.number) is int and trial.number >= 0,
        "state": isinstance(trial.state, str) and trial.state in STATES,
        "params": isinstance(trial.params, dict),
        "value": trial.value is None or type(trial.value) in numbers,
        "evaluations": isinstance(trial.evaluations, list) and all(map(_is_pair, trial.evaluations)),
        "owner": isinstance(trial.owner, dict) and texts("host") and texts("job") and texts("array_task"),
        "starts": type(count) is int and count >= 0,
        "began": trial.began is None or is_finite(trial.began),
        "ended": trial.ended is None or is_finite(trial.ended),
        "reason": isinstance(trial.reason, str | None),
        "confirms": trial.confirms is None or type(trial.confirms) is int,
        "seed": trial.seed is None or type(trial.seed) is int,
    }
    return next((name for name, is_valid in valid.items() if not is_valid), None)


def _is_pair(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 2 and all(type(one) in (int, float) for one in found)


def is_finite(found: Any) -> bool:
    """Whether it is a number, and one to compute with."""
    return type(found) in (int, float) and -1e300 < found < 1e300  # isfinite() fails for an integer of 400 digits


_REMEDY = "delete the file: a worker then begins the trial again, from its last checkpoint if there is one"


def write_trial(folder: Path, trial: Trial) -> None:
    """Replace `folder/trial.json`."""
    files.write_json(folder / TRIAL, dataclasses.asdict(trial))


def write_plan(folder: Path, plan: SweepPlan) -> None:
    files.write_json(folder / SWEEP_PLAN, plan.as_dict())


def share_plan(folder: Path, plan: SweepPlan) -> None:
    """Write the plan, or compare it with the one that is there. Raises ValueError, with the names that differ.

    One worker at a time.
    """
    if not (folder / SWEEP_PLAN).exists():
        write_plan(folder, plan)
        return
    known = read_plan(folder)
    differ = [
        entry.name for entry in dataclasses.fields(plan) if getattr(plan, entry.name) != getattr(known, entry.name)
    ]
    if differ:
        texts = [f"{name} ({_entry(known, name)}, here {_entry(plan, name)})" for name in differ]
        raise ValueError(
            f"{folder} holds a sweep with another {' and '.join(texts)}. Give the same as its first worker, or take another "
            "--output_dir"
        )


def _entry(plan: SweepPlan, name: str) -> str:
    return short(str(plan.as_dict()[name]), 200)


def best_first(trials: Iterable[Trial]) -> list[Trial]:
    """The finished ones by value, the best first; of equal ones the earlier."""
    valued = [(trial.value, trial) for trial in trials if trial.state == FINISHED and trial.value is not None]
    return [trial for _, trial in sorted(valued, key=lambda pair: (-pair[0], pair[1].number))]


def confirmations(plan: SweepPlan, ended: Sequence[Trial]) -> list[tuple[int, Trial, int]]:
    """Place, trial and seed: the best trials, each with the same seeds, which no trial had."""
    used = {plan.fixed.get("seed")} | {trial.params.get("seed") for trial in ended}
    seeds = list(itertools.islice((seed for seed in itertools.count(1) if seed not in used), plan.confirm_seeds))
    best = enumerate(best_first(ended)[:CONFIRMED], start=1)
    return [(place, trial, seed) for place, trial in best for seed in seeds]


def delete_what_a_resume_needs(folder: Path, trial: Trial) -> None:
    """Of a trial that has ended."""
    if not trial.has_ended:
        return
    for old in [*folder.glob("checkpoint-*"), *([folder / BEST] if trial.state != FINISHED else [])]:
        files.remove(old)


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", str(path))))


def _mapping(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a mapping, found {shown(found)}")
    return found
