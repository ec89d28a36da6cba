"""metrics.jsonl: a line per step, whole lines only, and none twice after a resume."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import LoggerType
from rich.console import Console

from qa_accel.training import log
from qa_accel.training.checkpoint import Progress


def test_lines_after_the_checkpoint_are_cut_since_they_are_written_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "eval_f1": 50.0}, {"step": 3, "loss": 0.5}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    log._cut(path, 2)
    assert [json.loads(line) for line in path.read_text().splitlines()] == lines[:3]
    log._cut(path, 0)
    assert path.read_text() == ""


def test_half_a_line_of_a_killed_run_is_cut(tmp_path):
    """Breaks if a run cannot go on since the last line of its metrics is not JSON."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    log._cut(path, 5)
    assert path.read_text() == '{"step": 1, "loss": 2.0}\n'


DAMAGED = {
    "garbage": b"garbage",
    "zeros, as a power cut leaves them": bytes(100),
    "no step": b'{"loss": 1.0}',
    "a list": b"[1]",
    "a step as text": b'{"step": "1"}',
    "a step that is no whole number": b'{"step": 1.0}',
    "a step that is true": b'{"step": true}',
    "deep": b"[" * 100_000,
    "5,000 digits": b'{"step": ' + b"1" * 5000 + b"}",
    "not UTF-8": b'{"step": 1, "x": "\xff"}',
    "nothing": b"",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_line_that_cannot_be_read_is_dropped_and_counted(kind, tmp_path):
    """Breaks if a log blocks the start of a run whose checkpoints are whole, or if good lines go with the bad one."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + DAMAGED[kind] + b'\n{"step": 2, "x": "\xe2\x80\xa8"}\n{"step": 3}\n')
    assert log._cut(path, 2) == 1
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2, "x": "\xe2\x80\xa8"}\n'


def test_dropped_lines_are_said(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("x\n\n")
    console = Console(record=True)
    logged(tmp_path, [{"span": 8.0}], console)
    assert "metrics.jsonl: 2 lines cannot be read and are dropped" in console.export_text()


def test_lines_are_not_written_through_a_link(tmp_path):
    """Breaks if a link that was planted after the start leads to another file."""
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"metrics.jsonl cannot be written"):
        logged(tmp_path, [{"span": 8.0}])
    assert not (tmp_path / "victim").exists()


def test_a_run_without_metrics_has_nothing_to_cut(tmp_path):
    log._cut(tmp_path / "metrics.jsonl", 3)
    assert not list(tmp_path.iterdir())


def test_looking_at_the_device_less_than_once_a_step_is_refused():
    with pytest.raises(ValueError, match="--logging_steps must be at least 1, got 0"):
        log.LogConfig(logging_steps=0)


def test_a_tracker_must_be_known_and_installed_and_all_takes_those_that_are(monkeypatch):
    """Breaks if `all`, which is a name and no tracker, is looked for among the installed ones."""
    installed = [LoggerType.WANDB]
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: installed)
    log.LogConfig(report_to=("all", "wandb"))
    with pytest.raises(ValueError, match="--report_to x: accelerate has no such tracker; known: all, "):
        log.LogConfig(report_to=("x",))
    with pytest.raises(ValueError, match=r"--report_to mlflow: its package is not installed; install it, or"):
        log.LogConfig(report_to=("mlflow",))
    with pytest.raises(
        ValueError, match=r"--report_to tensorboard: its package .*; pip install 'qa-accel\[tracking\]'"
    ):
        log.LogConfig(report_to=("tensorboard",))
    installed.clear()
    with pytest.raises(ValueError, match="--report_to all: its package is not installed"):
        log.LogConfig(report_to=("all",))


def logged(folder, steps: list[dict[str, float]], console: Console | None = None) -> list[dict]:
    """Lines of steps over four windows each, with these sums."""
    path = folder / "metrics.jsonl"
    metrics = log.MetricsLog(
        Accelerator(cpu=True),
        console or Console(quiet=True),
        path,
        log.LogConfig(logging_steps=len(steps)),
        total_steps=len(steps),
        first_step=0,
        epoch_windows=8,
    )
    progress = Progress()
    for parts in steps:
        progress.advance(1, 4)
        sums = {name: torch.tensor(value) for name, value in parts.items()}
        numbers: dict = dict(grad_norm=torch.tensor(1.0), learning_rate=0.1, tokens=30, computed_tokens=40)
        metrics.step(progress, np.array([[[0, 1, 2, 3]]]), loss_parts=sums, **numbers)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_only_part_of_the_loss_is_the_loss(tmp_path):
    lines = logged(tmp_path, [{"span": 8.0}, {"span": 6.0}])
    assert [line["loss"] for line in lines] == [2.0, 1.5]
    assert not any(key.startswith("loss_") for line in lines for key in line)


def test_several_parts_of_the_loss_have_a_key_each(tmp_path):
    """Per window; breaks if steps or parts are mixed up on their way to the host."""
    lines = logged(tmp_path, [{"span": 8.0, "distillation": 4.0}, {"span": 6.0, "distillation": 1.0}])
    keys = ("loss", "loss_span", "loss_distillation")
    assert [[line[key] for key in keys] for line in lines] == [[3.0, 2.0, 1.0], [1.75, 1.5, 0.25]]
