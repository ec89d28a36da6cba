"""`output_dir`: created, checked, and locked for one writer until the process ends."""

import errno
import fcntl
import json
import logging
import os
import socket
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from qa_accel import files
from qa_accel.messages import PATH, short
from qa_accel.run_layout import BEST, DATA_REPORT, FINISHED, MARKER, METRICS, REPORT, STOP_FILE

if TYPE_CHECKING:  # it imports torch, which a command of one process may do without
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

LOCK = ".lock"
OF_A_RUN = (METRICS, DATA_REPORT, MARKER, BEST, "checkpoint-*")
"""What tells a training run's folder, prepared, interrupted or finished, from one of answers."""
SECONDS_FOR_A_DEAD_NODE = 150
"""How long a requeued job waits for its previous start: a file server frees a lost node's lock after 90 s."""

_held: dict[Path, int] = {}


def open_run(output_dir: str, accelerator: "Accelerator", *, overwrite: bool) -> Path:
    """The run's folder, created or checked by rank 0, from now on its only writer.

    Raises ValueError if the run is finished (unless `overwrite`) or another process writes it, OSError if the folder
    cannot be written.
    """
    folder = Path(output_dir)
    if accelerator.is_main_process and os.path.exists(folder / FINISHED) and not overwrite:
        later = "" if os.path.exists(folder / REPORT) else f"; its {REPORT} is written by scripts/report.py {folder}"
        raise ValueError(
            f"{folder} holds a finished run ({FINISHED}); take another --output_dir or pass --overwrite_output_dir{later}"
        )
    writable_folder(folder, accelerator)
    if accelerator.is_main_process:
        _check_plain(folder / METRICS)
        hold(folder)
    return folder


def open_answers(output_dir: str, accelerator: "Accelerator", names: Collection[str]) -> Path:
    """A folder for answers, files of these names, created or checked by rank 0, from now on its only writer. Former answers may be in it.

    Raises ValueError for a training run's folder, whose scores, predictions and settings would be replaced, and if another
    process writes it; OSError if it cannot be written.
    """
    folder = writable_folder(output_dir, accelerator)
    if accelerator.is_main_process:
        _take_for_answers(folder, names)
    return folder


def open_answers_alone(output_dir: str, names: Collection[str]) -> Path:
    """As `open_answers`, in a command of one process."""
    folder = Path(output_dir)
    make_writable(folder)
    _take_for_answers(folder, names)
    return folder


def _take_for_answers(folder: Path, names: Collection[str]) -> None:
    found = next((path.name for pattern in OF_A_RUN for path in sorted(folder.glob(pattern))), None)
    if found is not None:
        raise ValueError(
            f"--output_dir {folder} is the folder of a training run (it holds {found}), whose results would be "
            "replaced: take another folder for the answers"
        )
    files.check_no_folders(folder, names)
    hold(folder)


def open_shared(output_dir: str, others: Collection[str]) -> Path:
    """A folder that many processes fill together, created or checked; runs that want it for themselves are kept out until
    this process ends. `others`: files of which none may be there.

    Raises ValueError for another run's folder and for one that another kind of run is writing, OSError if it cannot be
    written.
    """
    folder = Path(output_dir)
    make_writable(folder)
    found = next((path.name for pattern in (*OF_A_RUN, *others) for path in sorted(folder.glob(pattern))), None)
    if found is not None:
        raise ValueError(
            f"--output_dir {folder} is the folder of another run (it holds {found}): take another folder for these answers"
        )
    hold(folder, shared=True)
    return folder


def _check_plain(path: Path) -> None:
    """Raises ValueError if something that is no file has this name: a link leads elsewhere, a FIFO waits for a reader."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise ValueError(
            f"{path} is not a plain file, but a link, a folder or a FIFO; remove it or take another --output_dir"
        )


def writable_folder(folder: str | Path, accelerator: "Accelerator") -> Path:
    """The folder, created by rank 0 if it does not exist. Raises OSError if it cannot be written, before any work is done."""
    folder = Path(folder)
    if accelerator.is_main_process:
        make_writable(folder)
    accelerator.wait_for_everyone()
    return folder


def make_writable(folder: Path) -> None:
    """Create the folder if it does not exist. Raises OSError if it cannot be written, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # a fixed name could be a link that somebody planted
            pass
    except OSError as error:
        raise OSError(f"--output_dir {short(str(folder), PATH)} cannot be written: {error.strerror}") from error


def hold(folder: Path, *, shared: bool = False) -> None:
    """Lock the folder until this process ends, however it ends. Raises ValueError if another process holds it; `shared`:
    if one holds it that does not share it.

    A POSIX record lock: network file systems support it, the kernel releases it with the process, and forked helpers
    that outlive a killed run do not inherit it.
    """
    path = folder / LOCK
    if path in _held:
        return
    _check_plain(path)
    try:
        # O_NOFOLLOW, O_NONBLOCK: the name could have become a link or a FIFO since
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise OSError(f"{path}, the lock of this folder, cannot be opened: {error.strerror}") from error
    job = os.environ.get("SLURM_JOB_ID")
    give_up = time.monotonic() + SECONDS_FOR_A_DEAD_NODE
    while True:
        try:
            fcntl.lockf(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                logger.warning(
                    "%s: this file system has no locks (%s); two runs on one folder would not be noticed", path, error
                )
                return
        holder = _holder(descriptor)
        requeued = job is not None and holder.get("slurm_job") == job
        if not requeued or time.monotonic() > give_up:
            os.close(descriptor)
            raise ValueError(
                f"another run is writing {folder}: process {holder.get('pid', '?')} on {holder.get('host', '?')}, since "
                f"{holder.get('since', '?')}. Wait until it ends, or stop it (a training run: touch {folder / STOP_FILE}), or take another "
                "--output_dir"
            )
        time.sleep(2)
    entry = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T"), "slurm_job": job}
    with files.writing(folder):  # a full disk
        os.ftruncate(descriptor, 0)
        if not shared:
            os.pwrite(descriptor, json.dumps(entry).encode(), 0)
    _held[path] = descriptor


def _holder(descriptor: int) -> dict[str, str]:
    """The entry of the process that holds the lock; empty if it has not written one yet, or it is damaged."""
    try:
        entry = json.loads(os.pread(descriptor, 4096, 0))
    except (ValueError, RecursionError):
        return {}
    return {name: short(str(value)) for name, value in entry.items()} if isinstance(entry, dict) else {}
