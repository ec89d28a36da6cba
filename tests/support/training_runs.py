"""Runs of the training script on the toy, in fp32, each in separate processes, and the files they leave."""

import importlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from processes import Left, run
from safetensors.torch import load_file
from toy import WINDOWS, Toy, flags

from qa_accel import config
from qa_accel.commands import train
from qa_accel.distributed import entry
from qa_accel.evaluation import scoring
from qa_accel.training import log
from qa_accel.training.progress import Progress

SPEEDS = ("windows_per_second", "tokens_per_second")
SPREAD: dict[int, dict[str, Any]] = {
    1: dict(per_device_train_batch_size=4, gradient_accumulation_steps=2),
    2: dict(per_device_train_batch_size=2, gradient_accumulation_steps=2),
}
"""For one process and for two: 8 windows an optimizer step, 9 steps an epoch, 18 in all."""


def train_script(argv: list[str], arrangements: list[tuple]) -> None:
    """What scripts/train.py does; `arrangements` (function, arguments) change something beforehand."""
    for arrange, *arguments in arrangements:
        arrange(*arguments)
    entry.main(lambda: train.run(config.parse(train.Config, argv)))


def kill_after(place: str, calls: int) -> None:
    """End this process, as the kernel would for want of memory, when the function of this name has run n times."""
    folder, module, *path, name = place.split(".")
    owner = importlib.import_module(f"qa_accel.{folder}.{module}")
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    count = 0

    def counted(*arguments, **options):
        nonlocal count
        result = original(*arguments, **options)
        count += 1
        if count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def leave_at_once() -> None:
    """Other ranks than 0 give an error time to appear on rank 0 before they leave."""
    entry.time = SimpleNamespace(sleep=lambda seconds: None)  # type: ignore


def note_windows(path: Path) -> None:
    """Append the windows of each optimizer step to a file of lines, once for all ranks."""
    original = log.MetricsLog.step

    def noted(self, progress, step_plan, **numbers):
        if self.accelerator.is_main_process:
            with path.open("a") as file:
                file.write(json.dumps({"step": progress.step, "plan": step_plan.tolist()}) + "\n")
        return original(self, progress, step_plan, **numbers)

    log.MetricsLog.step = noted  # type: ignore


def score_in_turn(*f1: float) -> None:
    """Let the evaluations find these scores, one after the other."""
    to_come, original = iter(f1), scoring.scores_of

    def scripted(*arguments, **options):
        return original(*arguments, **options) | {"f1": next(to_come)}

    scoring.scores_of = scripted  # type: ignore


def touch_at(path: Path, step: int) -> None:
    """Make this file when the run has done so many steps; each rank waits until it looks for it again."""
    original = Progress.advance

    def advanced(self, *arguments, **options):
        original(self, *arguments, **options)
        if self.step == step:
            path.touch()
            time.sleep(1.1)  # it is looked for once a second

    Progress.advance = advanced  # type: ignore


@dataclass
class Trainer:
    """Starts runs that differ from one another in few settings."""

    toy: Toy
    cache: Path

    def __call__(
        self,
        folder: Path,
        *switches: str,
        processes: int = 1,
        arrangements: list[tuple] | None = None,
        environment: dict[str, str] | None = None,
        **settings: Any,
    ) -> list[Left]:
        usual = dict(model_name_or_path=self.toy.model, train_file=self.toy.train, validation_file=self.toy.dev)
        usual |= dict(per_device_train_batch_size=8, learning_rate=3e-3, logging_steps=4, n_best_size=4)
        usual |= dict(cache_dir=self.cache, output_dir=folder, **WINDOWS) | settings
        argv = flags(**{name: value for name, value in usual.items() if value is not None}) + list(switches)
        return run(train_script, argv, arrangements or [], processes=processes, environment=environment)

    def whole(self, folder: Path, *switches: str, **options: Any) -> Path:
        """A run that must succeed."""
        for rank, left in enumerate(self(folder, *switches, **options)):
            assert left.code == 0, f"rank {rank} left with {left.code}:\n{left.output}"
        return folder


def lines_of(folder: Path) -> list[dict]:
    """metrics.jsonl without the speeds."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in SPEEDS} for line in lines]


def steps_of(folder: Path) -> list[dict]:
    return [line for line in lines_of(folder) if "loss" in line]


def evaluations_of(folder: Path) -> list[dict]:
    return [line for line in lines_of(folder) if "eval_f1" in line]


def results_of(folder: Path) -> dict:
    """all_results.json without the times."""
    results = json.loads((folder / "all_results.json").read_text())
    return {key: value for key, value in results.items() if not key.startswith("seconds")}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    weights = weights_of(other)
    assert weights_of(one).keys() == weights.keys()
    for name, weight in weights_of(one).items():
        assert torch.equal(weight, weights[name]), name
