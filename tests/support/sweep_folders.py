"""Folders of sweeps by hand, as scripts/sweep.py would have left them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qa_accel.experiments import trials
from qa_accel.experiments.space import Parameter
from qa_accel.experiments.trials import SweepPlan, Trial

SPACE = (
    Parameter("learning_rate", "float", 1e-5, 1e-3, log=True),
    Parameter("per_device_train_batch_size", "choice", choices=(8, 16, 32)),
    Parameter("warmup_ratio", "float", 0.0, 0.2),
    Parameter("num_train_epochs", "int", 1, 4),
)
FIXED = {"model_name_or_path": "minilm", "train_file": ["train.json"], "validation_file": ["dev.json"], "seed": 42}


def plan(count: int, **changes: Any) -> SweepPlan:
    usual = dict(sampler="random", seed=0, trials=count, metric="f1", space=SPACE, fixed=FIXED, launcher=("python",))
    return SweepPlan(**(usual | changes))  # type: ignore[arg-type]


def trial(number: int, value: float | None, state: str = "finished", **more: Any) -> Trial:
    params = {"learning_rate": 1e-4, "per_device_train_batch_size": 16, "warmup_ratio": 0.1, "num_train_epochs": 2}
    usual = dict(
        params=params, starts=1, began=1000.0 * number, ended=None if state == "running" else 1000.0 * number + 60
    )
    return Trial(number, state, value=value, **(usual | more))  # type: ignore[arg-type]


def write_sweep(
    folder: Path, swept: SweepPlan, found: Sequence[Trial], reruns: Mapping[int, Sequence[float]] | None = None
) -> Path:
    """`reruns`: number of a trial -> values of its re-runs; the first one's place is 1."""
    folder.mkdir(parents=True, exist_ok=True)
    trials.write_plan(folder, swept)
    for each in found:
        trials.folder_of(folder, each.number).mkdir(exist_ok=True)
        trials.write_trial(trials.folder_of(folder, each.number), each)
    for place, (number, values) in enumerate((reruns or {}).items(), 1):
        for seed, value in enumerate(values, 101):
            again = trials.confirmation_folder(folder, place, seed)
            again.mkdir(parents=True)
            trials.write_trial(again, trial(number, value, confirms=number, seed=seed))
    return folder


def usual_trials(count: int, seed: int = 0) -> list[Trial]:
    """F1 is best at a learning rate of 1e-4 and hardly anything else matters; each sixth is pruned, each twentieth fails."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(count):
        params = {
            "learning_rate": float(10 ** generator.uniform(-5, -3)),
            "per_device_train_batch_size": int(generator.choice([8, 16, 32])),
            "warmup_ratio": float(generator.uniform(0, 0.2)),
            "num_train_epochs": int(generator.integers(1, 5)),
        }
        value = 78 - 12 * (math.log10(params["learning_rate"]) + 4) ** 2 + float(generator.normal(0, 0.4))
        if number % 20 == 13:
            found.append(trial(number, None, "failed", params=params, reason="exit code 1: error: CUDA out of memory"))
        elif number % 6 == 5:
            found.append(trial(number, value - 8, "pruned", params=params, evaluations=[[100, value - 8]]))
        else:
            found.append(trial(number, value, params=params))
    return found
