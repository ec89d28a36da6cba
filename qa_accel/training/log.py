"""Numbers of a run, at last its report -> metrics.jsonl, the console and accelerate's trackers. No-op on other ranks than 0, except for the reduction of losses.

Losses and gradient norms stay on the device until `flush`, so that no step waits for the device.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich import progress as bars
from rich.console import Console
from rich.text import Text

from qa_accel import files
from qa_accel.batching.plan import NOTHING
from qa_accel.data.named_sets import SetRows
from qa_accel.reporting import blocks, trackers
from qa_accel.training import loss
from qa_accel.training.part_settings import LogConfig
from qa_accel.training.progress import Progress


class NonFiniteLoss(RuntimeError):
    """The loss or the gradient norm of a step was infinite or not a number; `windows` are the step's, as in its plan."""

    def __init__(self, message: str, windows: np.ndarray):
        super().__init__(message)
        self.windows = windows


class MetricsLog:
    """metrics.jsonl, the console with its progress bar, and the trackers of one run.

    A context: at its end the trackers, which `trackers.start` has started, are closed. `bar`, a context too, is the progress bar, which belongs around the steps.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        console: Console,
        path: Path,
        config: LogConfig,
        *,
        total_steps: int,
        first_step: int,
        epoch_windows: int,
        sets: SetRows | None = None,
    ):
        """A run that continues after `first_step`: later lines of an interrupted run are cut from `path`.

        `epoch_windows`: windows of one epoch, the unit of the epochs that are logged. `sets`: the set of each window, if there
        are several.
        """
        self.accelerator, self.console, self.path, self.config = accelerator, console, path, config
        self.epoch_windows, self.sets = epoch_windows, sets
        self.total_steps, self.last_step = total_steps, first_step
        self._pending: list[tuple[dict[str, Any], np.ndarray]] = []
        self._since = time.perf_counter()
        self._said = 0.0
        self.bar = bars.Progress(
            bars.TextColumn("[progress.description]{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not accelerator.is_main_process or not self.console.is_terminal,
        )
        self._task = self.bar.add_task("training", total=total_steps, completed=first_step, note="")
        if accelerator.is_main_process and (damaged := _cut(path, first_step)):
            self.console.print(f"{path.name}: {damaged} lines cannot be read and are dropped")

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        trackers.close(self.accelerator, failed=kind is not None)

    def restart_clock(self) -> None:
        """Leave what happened since the last flush (evaluation, saving) out of the next steps' speed."""
        self._since = time.perf_counter()

    def step(
        self,
        progress: Progress,
        step_plan: np.ndarray,
        *,
        loss_parts: dict[str, torch.Tensor],
        grad_norm: torch.Tensor | None,
        learning_rate: float,
        tokens: int,
        computed_tokens: int,
    ) -> None:
        """Keep the optimizer step that `progress` has just counted.

        `loss_parts` (name of each term of the loss -> its sum over this rank's windows) and `grad_norm` are still on the
        device. `tokens` are the step's real ones over all ranks, `computed_tokens` those that were computed, padding included.
        """
        line = {
            "step": progress.step,
            "epoch": round(progress.windows / self.epoch_windows, 4),
            "loss": loss.total(loss_parts).detach(),
            **({f"loss_{name}": part.detach() for name, part in loss_parts.items()} if len(loss_parts) > 1 else {}),
            "learning_rate": learning_rate,
            "grad_norm": None if grad_norm is None else grad_norm.detach(),
            "windows": int((step_plan != NOTHING).sum()),
            "tokens": tokens,
            "padding": round(1 - tokens / computed_tokens, 4),
        }
        if self.sets is not None:
            line["windows_by_set"] = self.sets.count(step_plan[step_plan != NOTHING])
        self.last_step = progress.step
        self._pending.append((line, step_plan))
        if progress.step % self.config.logging_steps == 0:
            self.flush()

    def flush(self) -> None:
        """Bring the kept steps to the host (all ranks must call), write a line each. Raises NonFiniteLoss."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        lines = [line for line, _ in pending]
        keys = [key for key in lines[0] if key == "loss" or key.startswith("loss_")]
        sums = torch.stack([line[key] for line in lines for key in keys])
        losses = iter(self.accelerator.reduce(sums, "sum").tolist())  # type: ignore[union-attr]
        seconds = time.perf_counter() - self._since
        windows, tokens = (sum(line[unit] for line in lines) for unit in ("windows", "tokens"))
        bad = None
        for line, step_plan in pending:
            line.update({key: next(losses) / line["windows"] for key in keys})
            line["grad_norm"] = None if line["grad_norm"] is None else float(line["grad_norm"])
            line["windows_per_second"] = round(windows / seconds, 2)
            line["tokens_per_second"] = round(tokens / seconds, 1)
            # a scaler (fp16) skips steps whose gradients overflow: that is its work, not an error
            norm = line["grad_norm"] if self.accelerator.scaler is None else None
            if bad is None and not (math.isfinite(line["loss"]) and math.isfinite(norm or 0.0)):
                bad = line, step_plan
        if bad is not None:
            line, step_plan = bad
            raise NonFiniteLoss(
                f"step {line['step']} (epoch {line['epoch']}): loss {line['loss']}, gradient norm {line['grad_norm']}, "
                f"learning rate {line['learning_rate']:.3g}",
                step_plan[step_plan != NOTHING],
            )
        self._write(*lines)
        self._say(lines[-1])
        self._since = time.perf_counter()

    def scores(self, progress: Progress, scores: dict[str, Any]) -> None:
        """Write an evaluation's scores as a line with the prefix `eval_`, and say the main ones."""
        step, epoch = progress.step, round(progress.windows / self.epoch_windows, 4)
        self._write({"step": step, "epoch": epoch, **{f"eval_{key}": value for key, value in scores.items()}})
        main = ("exact", "f1", "best_exact", "best_f1", "best_f1_thresh", "mean_exact", "mean_f1")
        main += ("multi_exact_f1", "best_multi_exact_f1", "aupr")
        said = "  ".join(f"{key} {scores[key]:.2f}" for key in main if key in scores)
        self.console.print(Text.assemble(("evaluation", "bold"), f" at step {step} (epoch {epoch:.2f}): {said}"))

    def report(self, report: blocks.Report | None, html_file: Path | None, scores: Mapping[str, Any] | None) -> None:
        """Give the trackers the final scores and the finished report, `html_file` being the page that shows it."""
        trackers.send(self.accelerator, report, html_file, scores, self.last_step)

    def _say(self, line: dict[str, Any]) -> None:
        note = f"loss {line['loss']:.3f}  lr {line['learning_rate']:.1e}  {line['windows_per_second']:.0f} windows/s"
        self.bar.update(self._task, completed=line["step"], note=note)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._said > 10:
            self.console.print(f"step {line['step']}/{self.total_steps} (epoch {line['epoch']:.2f})  {note}")
            self._said = now

    def _write(self, *lines: dict[str, Any]) -> None:
        for line in lines:
            trackers.log(self.accelerator, line, line["step"])
        if self.accelerator.is_main_process:
            with files.writing(self.path), open(self.path, "a", encoding="utf-8", opener=_follow_no_link) as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)


def _follow_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _cut(path: Path, step: int) -> int:
    """Keep the lines of metrics.jsonl up to `step`; what an interrupted run wrote after its checkpoint will be written again.

    Returns the number of lines that cannot be read, which are dropped: it is only a log, and the checkpoints are whole.
    """
    if not path.exists():
        return 0
    *whole, _ = path.read_bytes().split(b"\n")  # a killed run may leave half a line
    steps = list(map(_step_of, whole))
    kept = [line for line, found in zip(whole, steps) if found is not None and found <= step]
    files.write_text(path, b"".join(line + b"\n" for line in kept).decode())
    return steps.count(None)


def _step_of(line: bytes) -> int | None:
    try:
        entry = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    found = entry.get("step") if isinstance(entry, dict) else None
    return found if type(found) is int else None
