"""Runs a command that dies with its parent, however the parent dies, and so does all that the command has started.

As a program: stdin is a pipe from the parent; at its end the command and all its descendants are killed. It starts in some
hundredths of a second: standard library only.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO

PR_SET_CHILD_SUBREAPER = 36
"""Of prctl(2): orphans below this process become its children, in whatever session or group they are."""


@contextlib.contextmanager
def started(command: Sequence[str], log: IO[bytes]) -> Iterator[subprocess.Popen]:
    """The command, its output in `log`. It and its descendants are killed when the block or this process ends."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C and Slurm's signals are this process's to pass on, as a file
    )
    try:
        yield child
    finally:
        assert child.stdin is not None, "opened above"
        child.stdin.close()
        child.wait()


def main(command: list[str]) -> int:
    """Run it; its exit code, 128 + the number of a signal that ended it."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the pipe alone decides
    try:
        # signals that are ignored here would be ignored there too
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, restore_signals=True, preexec_fn=_default_signals)
    except OSError as error:
        print(f"error: {command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.buffer.raw, selectors.EVENT_READ)  # type: ignore[attr-defined]
        while child.poll() is None:
            if selector.select(timeout=0.1):  # readable: its end, since nobody writes to it
                break
    _kill_descendants()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _default_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)


def _kill_descendants() -> None:
    """Until none is left: a process that is killed may have started one just before."""
    give_up = time.monotonic() + 30  # one that cannot be killed waits for a device
    while (left := _descendants(os.getpid())) and time.monotonic() < give_up:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _descendants(ancestor: int) -> list[int]:
    """Without those that have ended and wait for their parent."""
    children: dict[int, list[tuple[int, bool]]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{int(name)}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()  # the name in parentheses may hold anything
            children.setdefault(int(fields[1]), []).append((int(name), fields[0] == "Z"))
    found, queue = [], [ancestor]
    while queue:
        for pid, is_dead in children.get(queue.pop(), ()):
            queue.append(pid)
            if not is_dead:
                found.append(pid)
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
