"""Requests to stop (a signal on any rank, a file, the clock) -> one step at which all ranks save and exit.

In every step each rank adds its request to an all-reduce of one number over gloo and reads the result of the previous one. So
no rank waits for another's device, and all ranks read the same result at the same step, one step after the request.
"""

import os
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from qa_accel import files
from qa_accel.distributed import signals
from qa_accel.distributed.settings import StopConfig
from qa_accel.run_layout import MARKER, STOP_FILE

EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: not done, try again. 0 under a launcher, which takes any other code for an error."""
SECONDS_BEFORE_THE_END = 60
"""A run exits this long before its Slurm job ends, plus twice the time of its slowest save."""

CONTINUE, SAVE, STOP = range(3)


class StopRequested(Exception):
    """All ranks have agreed to stop here."""


class Stop:
    """Stop requests, agreed by all ranks. Methods that say so must be called by all ranks, at the same places."""

    def __init__(
        self, config: StopConfig, accelerator: Accelerator, folder: Path, timeout: int, save_minutes: float | None
    ):
        """`timeout`: seconds after which a rank stops waiting for another rank's request."""
        signals.listen(config.stop_signals)
        self.accelerator, self.folder = accelerator, folder
        self.slowest_save = 0.0
        self._group: Any = None
        if accelerator.num_processes > 1:
            self._group = torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self._agreed = torch.zeros(1, dtype=torch.int32)
        self._pending: Any = None
        self._save_every = None if save_minutes is None else save_minutes * 60
        self._saved_at = self._checked_at = time.monotonic()
        self._reason: str | None = None
        hours = config.max_train_hours
        self._hours_over = None if hours is None else time.monotonic() + hours * 3600
        self._job_ends = _seconds(os.environ.get("SLURM_JOB_END_TIME"))
        if accelerator.is_main_process:
            for old in (MARKER, STOP_FILE):  # of an earlier start
                (folder / old).unlink(missing_ok=True)

    def poll(self) -> int:
        """CONTINUE, SAVE or STOP: the strongest of all ranks' requests at the previous poll. All ranks must call.

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
        """poll(), for places where nothing can be saved. Raises StopRequested. All ranks must call."""
        if self.poll() == STOP:
            raise StopRequested

    def saved(self, seconds: float) -> None:
        """A checkpoint took this long: the next one by the clock is due later, the exit before a job's end earlier."""
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
        """Wait for the last all-reduce: the group must not be destroyed during it."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None

    def _request(self) -> int:
        self._reason = self._reason or self._reason_to_stop()
        if self._reason is not None:
            return STOP
        due = self._save_every is not None and time.monotonic() - self._saved_at > self._save_every
        if due and self.accelerator.is_main_process:  # one clock for all
            self._saved_at = time.monotonic()  # request it once: the answer comes a step later
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
        # only one rank checks, and not at every step: a shared file system takes milliseconds to answer
        if self.accelerator.is_main_process and now - self._checked_at > 1:
            self._checked_at = now
            if (self.folder / STOP_FILE).exists():
                return f"the file {STOP_FILE}"
        return None


def launched() -> bool:
    """Whether a launcher started this process."""
    # a launcher of one process sets no rank, and ACCELERATE_MIXED_PRECISION is also set by hand
    return "LOCAL_RANK" in os.environ or "ACCELERATE_DYNAMO_BACKEND" in os.environ


def exit_code() -> int:
    """Exit code of a stopped run."""
    return 0 if launched() else EXIT_CODE


def _seconds(text: str | None) -> float | None:
    """Seconds since 1970 as Slurm writes them, None if it does not give them."""
    return float(text) if text is not None and text.isdigit() else None
