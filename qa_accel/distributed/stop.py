"""Requests to stop (a signal on any rank, a file, the clock) -> one step at which all ranks save and leave.

In every step each rank adds its request to an all-reduce of one number over gloo and reads the result of the one before. So no
rank waits for another's device, all ranks read the same result at the same step, and that step is one later than the request.
"""

import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from qa_accel import files
from qa_accel.distributed import signals

MARKER = "stopped.json"
"""Says of a run's folder: stopped, start the same command again."""
STOP_FILE = "STOP"
"""Made in a run's folder by anyone (`touch`), it stops the run."""
EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: not done, try again. Under a launcher it is 0, which would make an error of any other code."""
SECONDS_BEFORE_THE_END = 60
"""How long before a Slurm job's end a run leaves, beside twice the time of its slowest save."""

CONTINUE, SAVE, STOP = range(3)


@dataclass(frozen=True)
class StopConfig:
    stop_signals: tuple[str, ...] = signals.STOP_SIGNALS
    """Signals on which a run saves and leaves; leave out what another library of yours needs (NCCL, say: SIGUSR1)."""
    max_train_hours: float | None = None
    """Save and leave after this many hours, counted from this start; the same command goes on from there."""

    def __post_init__(self):
        if self.max_train_hours is not None and self.max_train_hours <= 0:
            raise ValueError(f"--max_train_hours must be positive, got {self.max_train_hours}")


class StopRequested(Exception):
    """All ranks have agreed to leave here."""


class Stop:
    """One run's agreement. Every method that says so must be called by all ranks, at the same places."""

    def __init__(
        self, config: StopConfig, accelerator: Accelerator, folder: Path, timeout: int, save_minutes: float | None
    ):
        """`timeout`: seconds after which a rank stops waiting for another one's request."""
        signals.listen(config.stop_signals)
        self.accelerator, self.folder = accelerator, folder
        self.slowest_save = 0.0
        self._group: Any = None
        if accelerator.num_processes > 1:
            self._group = torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self._agreed = torch.zeros(1, dtype=torch.int32)
        self._pending: Any = None
        self._save_every = None if save_minutes is None else save_minutes * 60
        self._saved_at = self._looked_at = time.monotonic()
        self._reason: str | None = None
        hours = config.max_train_hours
        self._hours_over = None if hours is None else time.monotonic() + hours * 3600
        self._job_ends = _seconds(os.environ.get("SLURM_JOB_END_TIME"))
        if accelerator.is_main_process:
            for old in (MARKER, STOP_FILE):  # requests and ends of an earlier start
                (folder / old).unlink(missing_ok=True)

    def poll(self) -> int:
        """CONTINUE, SAVE or STOP: the strongest of all ranks' requests at the poll before. All ranks must call.

        A single process gets its own request at once.
        """
        request = self._request()
        if self._group is None:
            return request
        agreed = CONTINUE
        if self._pending is not None:
            self._pending.wait()
            agreed = int(self._agreed)
        self._agreed = torch.tensor([request], dtype=torch.int32)
        self._pending = torch.distributed.all_reduce(
            self._agreed, torch.distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        return agreed

    def raise_if_stopped(self) -> None:
        """poll() for places where nothing can be saved. Raises StopRequested. All ranks must call."""
        if self.poll() == STOP:
            raise StopRequested

    def saved(self, seconds: float) -> None:
        """A checkpoint was written in this time: the next one by the clock is due later, the end of a job earlier."""
        self._saved_at = time.monotonic()
        self.slowest_save = max(self.slowest_save, seconds)

    def write_marker(self, step: int, saved: Path | None) -> str:
        """Write the marker; returns who requested the stop. All ranks must call."""
        self.close()
        requests = gather_object([(self.accelerator.process_index, socket.gethostname(), self._reason)])
        rank, host, reason = next((one for one in requests if one[2] is not None), requests[0])
        if self.accelerator.is_main_process:
            (self.folder / STOP_FILE).unlink(missing_ok=True)
            marker = {"reason": reason, "rank": rank, "host": host, "step": step}
            files.write_json(self.folder / MARKER, marker | {"checkpoint": saved and saved.name})
        return f"{reason} (rank {rank} on {host})"

    def close(self) -> None:
        """Wait for the last all-reduce: the group must not end in the middle of it."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None

    def _request(self) -> int:
        self._reason = self._reason or self._reason_to_stop()
        if self._reason is not None:
            return STOP
        due = self._save_every is not None and time.monotonic() - self._saved_at > self._save_every
        if due and self.accelerator.is_main_process:  # one clock for all
            self._saved_at = time.monotonic()  # said once: the answer comes a step later
            return SAVE
        return CONTINUE

    def _reason_to_stop(self) -> str | None:
        if signals.received():
            return signals.received()
        now = time.monotonic()
        if self._hours_over is not None and now > self._hours_over:
            return "max_train_hours are over"
        margin = SECONDS_BEFORE_THE_END + 2 * self.slowest_save
        if self._job_ends is not None and time.time() > self._job_ends - margin:
            return f"the Slurm job ends in less than {margin:.0f} s"
        # one rank looks, and not at every step: a shared file system answers in milliseconds
        if self.accelerator.is_main_process and now - self._looked_at > 1:
            self._looked_at = now
            if (self.folder / STOP_FILE).exists():
                return f"the file {STOP_FILE}"
        return None


def launched() -> bool:
    """Whether a launcher started this process."""
    # the launcher of one process sets no rank; the precision is also set by hand
    return "LOCAL_RANK" in os.environ or "ACCELERATE_DYNAMO_BACKEND" in os.environ


def exit_code() -> int:
    """With what a process leaves whose run was stopped."""
    return 0 if launched() else EXIT_CODE


def _seconds(text: str | None) -> float | None:
    """Seconds since 1970 as Slurm writes them, None where it does not say."""
    return float(text) if text is not None and text.isdigit() else None
