"""A recipe and a folder -> the usual training run as a child process, followed until it ends.

The child is `LAUNCHER scripts/train.py --config RECIPE --output_dir FOLDER`; it knows nothing of its parent. It is stopped by
the file STOP in its folder, which all ranks agree on. Its output goes to `FOLDER/train.log`. It dies with this process
(`leash.py`). A run that somebody else still writes is waited for.
"""

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import qa_accel
from qa_accel.distributed import signals
from qa_accel.distributed.run_folder import LOCK
from qa_accel.experiments import leash, slurm_jobs
from qa_accel.input_files import read_json
from qa_accel.messages import short
from qa_accel.run_layout import FINISHED, MARKER, METRICS, STOP_FILE

LOG = "train.log"
SECONDS_BETWEEN_LOOKS = 0.5
LAST_LINES = 5
"""Of a failed run's output that are given as the reason."""
DIED_BY_A_SIGNAL = re.compile(
    r"died with <Signals\.|exitcode\s*:\s*-\d+|Signal \d+ \(SIG\w+\) received|\(core dumped\)"
)
"""What accelerate's and torch's launchers write of a worker that a signal ended."""
ERROR = re.compile(r"(\d+: )?error\b")
"""Begins the message of a run that was refused; srun puts the node's number before it."""

Evaluations = Sequence[tuple[int, dict[str, Any]]]
"""Step and scores of each evaluation so far, without the prefix `eval_`."""


@dataclass(frozen=True)
class ChildResult:
    """How a run ended."""

    state: Literal["finished", "stopped", "failed"]
    """stopped: by `on_evaluation`, a signal to this process or to the run, or a STOP file, with a checkpoint; or, with the
    checkpoints it had, by what ends this process too (`_interruption`)."""
    scores: dict[str, Any] = field(default_factory=dict)
    """all_results.json of a finished run."""
    reason: str | None = None
    """Who stopped it, or the last lines that a failed run wrote."""
    crashed: bool = False
    """Failed because a signal ended a process (out of memory, say), which may not happen again."""
    started: bool = True
    """False if the run had been finished before, by an earlier start or another process."""


def train(
    recipe: Path,
    folder: Path,
    launcher: Sequence[str],
    *,
    on_evaluation: Callable[[Evaluations], bool] = lambda evaluations: False,
) -> ChildResult:
    """Train in `folder`, or go on there, or read the result of a run that has finished.

    `on_evaluation` is called after each evaluation and says whether to stop the run. A stop signal to this process
    (`signals.received`) stops the run too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics = _Metrics(folder / METRICS)
    if not _wait_for_others(folder):
        return ChildResult("stopped", reason=signals.received(), started=False)
    if (folder / FINISHED).exists():
        on_evaluation(metrics.read())
        return ChildResult("finished", _scores(folder), started=False)
    for old in (MARKER, STOP_FILE):
        (folder / old).unlink(missing_ok=True)
    command = [*launcher, *_script(), "--config", str(recipe), "--output_dir", str(folder)]
    with (folder / LOG).open("ab") as log:
        begins = log.tell()
        with leash.started(command, log) as child:
            _follow(child, folder, metrics, on_evaluation)
    (folder / STOP_FILE).unlink(missing_ok=True)
    return _result(folder, child.returncode, begins)


def _script() -> list[str]:
    """The training script; the module where the package is installed without scripts/."""
    script = Path(qa_accel.__file__).parents[1] / "scripts" / "train.py"
    return [str(script)] if script.is_file() else ["-m", "qa_accel.cli", "train"]


def _follow(
    child: subprocess.Popen, folder: Path, metrics: "_Metrics", on_evaluation: Callable[[Evaluations], bool]
) -> None:
    """Until the child has ended."""
    stop = False
    while True:
        try:
            child.wait(SECONDS_BETWEEN_LOOKS)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        if metrics.has_more() and on_evaluation(metrics.evaluations):
            stop = True
        if ended:
            return
        if stop or signals.received():
            # again and again: a run that is only starting deletes the file of an earlier start
            with contextlib.suppress(OSError):
                (folder / STOP_FILE).touch()


def _wait_for_others(folder: Path) -> bool:
    """Until no process writes the run's folder: one that outlived its worker, on another host perhaps. False if this process is to stop."""
    said = False
    while _is_held(folder / LOCK):
        if signals.received():
            return False
        if not said:
            print(f"{folder} is still written by a run whose worker is gone; waiting for its end", flush=True)
            said = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return True


def _is_held(path: Path) -> bool:
    """Whether another process has the run's lock; the look gives it back at once."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _result(folder: Path, code: int, begins: int) -> ChildResult:
    if (folder / FINISHED).exists():
        return ChildResult("finished", _scores(folder))
    if (folder / MARKER).exists():
        marker = read_json(folder / MARKER)
        return ChildResult("stopped", reason=str(marker.get("reason")) if isinstance(marker, dict) else None)
    with (folder / LOG).open("rb") as log:
        log.seek(begins)
        written = log.read()[-20_000:].decode(errors="replace")
    crashed = code < 0 or code > 128 or DIED_BY_A_SIGNAL.search(written) is not None
    if (interruption := _interruption(written, crashed)) is not None:
        return ChildResult("stopped", reason=interruption)
    return ChildResult("failed", reason=_reason(written, code), crashed=crashed)


def _interruption(written: str, crashed: bool) -> str | None:
    """What ended a run that did not fail by itself: the signal that this process got too, or Slurm."""
    if crashed and (signal := signals.received()) is not None:
        return signal
    if (refused := slurm_jobs.END_OF_A_STEP.search(written)) is not None:
        return short(refused[0].strip())
    if (state := slurm_jobs.own_end()) is not None:
        return f"Slurm ends this job: {state}"
    return None


def _reason(written: str, code: int) -> str:
    """The error that the run printed; without one, the last lines."""
    lines = [line.strip() for line in written.splitlines() if line.strip()]
    errors = [place for place, line in enumerate(lines) if ERROR.match(line)]
    chosen = lines[errors[0] : errors[0] + 1] if errors else lines[-LAST_LINES:]
    return short(f"exit code {code}: " + " | ".join(chosen), 1000)


def _scores(folder: Path) -> dict[str, Any]:
    scores = read_json(folder / FINISHED)
    if not isinstance(scores, dict):
        raise ValueError(f"{folder / FINISHED}: holds no scores")
    return scores


class _Metrics:
    """The evaluations of a metrics.jsonl that grows, and that a resume replaces."""

    def __init__(self, path: Path):
        self.path = path
        self.evaluations: list[tuple[int, dict[str, Any]]] = []
        self._file, self._offset = 0, 0

    def read(self) -> list[tuple[int, dict[str, Any]]]:
        self.has_more()
        return self.evaluations

    def has_more(self) -> bool:
        """Read what is new; whether an evaluation is."""
        try:
            with self.path.open("rb") as file:
                known = os.fstat(file.fileno())
                if known.st_ino != self._file or known.st_size < self._offset:
                    self._file, self._offset, self.evaluations = known.st_ino, 0, []
                file.seek(self._offset)
                *lines, rest = file.read().split(b"\n")
                self._offset = file.tell() - len(rest)
        except OSError:
            return False
        before = len(self.evaluations)
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                entry = json.loads(line)
                scores = {key.removeprefix("eval_"): value for key, value in entry.items() if key.startswith("eval_")}
                if scores:
                    self.evaluations.append((entry["step"], scores))
        return len(self.evaluations) > before


def launcher_words(text: str) -> tuple[str, ...]:
    """A command before the training script, as a shell reads it. `accelerate launch` is that of this interpreter.

    Raises ValueError where it is no command, or there is no such program.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"--launcher {text}: is no command ({error})") from error
    if words == ("accelerate", "launch"):
        # several processes meet at a port: two runs on one machine must not have the same
        return (*default_launcher(), "--main_process_port", "0")
    if words[:2] == ("accelerate", "launch"):
        return (*default_launcher(), *words[2:])
    if not words or shutil.which(words[0]) is None:
        raise ValueError(f"--launcher {text}: there is no program {words[0] if words else '(empty)'!r}")
    return words


def default_launcher() -> tuple[str, ...]:
    """`accelerate launch` for the devices of this machine, with this interpreter."""
    return (sys.executable, "-m", "accelerate.commands.launch")
