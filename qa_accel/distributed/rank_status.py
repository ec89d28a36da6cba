"""The status of each rank -> a line in `output_dir/ranks/`, so that host and step of a rank that was killed are known."""

import contextlib
import os
import secrets
import socket
import sys
import time
from pathlib import Path

from accelerate import Accelerator

from qa_accel import files
from qa_accel.messages import short
from qa_accel.terminal import visible

SECONDS_BETWEEN = 1.0
SECONDS_FOR_OTHERS = 2.0
"""Time for ranks that saw the failure too to write their status."""


class RankStatus:
    """One rank's line, rewritten while it runs."""

    def __init__(self, folder: Path, accelerator: Accelerator):
        self.accelerator, self.folder = accelerator, folder / "ranks"
        rank, world_size = accelerator.process_index, accelerator.num_processes
        self.path = self.folder / f"rank-{rank}.txt"
        self.who = f"rank {rank} of {world_size} on {socket.gethostname()}, pid {os.getpid()}"
        self.step, self._written = 0, 0.0
        if accelerator.is_main_process:
            files.remove(self.folder)  # of an earlier start; if it is a link, the link alone
            self.folder.mkdir(exist_ok=True)  # some file systems keep deleted files for a while
        accelerator.wait_for_everyone()
        self._write("running, before its first step")

    def heartbeat(self, step: int) -> None:
        """The rank is at this optimizer step."""
        self.step = step
        if time.monotonic() - self._written > SECONDS_BETWEEN:
            self._write(f"running, step {step} at {time.strftime('%FT%T')}")

    def failed(self, error: BaseException) -> None:
        """Write how this rank ended. If another rank caused it, print the ranks without a final status on stderr."""
        first_line = short(str(error).partition("\n")[0])
        self._write(f"failed after step {self.step}: {type(error).__name__}: {first_line}")
        if isinstance(error, (ValueError, OSError)):  # this rank's own error, which is reported
            return
        time.sleep(SECONDS_FOR_OTHERS)
        unfinished = [line for line in map(_read, sorted(self.folder.glob("rank-*.txt"))) if ": running" in line]
        for line in unfinished:
            print(
                f"{visible(line)} -- then nothing more: killed (out of memory?), or its machine is gone",
                file=sys.stderr,
            )

    def ended(self) -> None:
        """The run ends without an error. All ranks must call."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            files.remove(self.folder)

    def _write(self, state: str) -> None:
        """Under a random name first: a process that is stopped in the middle leaves its former line, no empty file."""
        self._written = time.monotonic()
        partial = self.folder / f".{self.path.name}.{secrets.token_hex(8)}.partial"
        with contextlib.suppress(OSError):  # a full disk: the checkpoint reports it, this is only a note
            try:
                with partial.open("x", encoding="utf-8") as file:
                    file.write(f"{self.who}: {visible(state)}\n")
                partial.replace(self.path)
            finally:
                partial.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
