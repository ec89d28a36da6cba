"""Stop signals -> the name of the first one. Light imports only: a script listens before it imports torch."""

import os
import signal
from collections.abc import Iterable
from types import FrameType
from typing import Any

STOP_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2")
"""Sent by Slurm, Kubernetes and users to make a run save and exit."""

BEFORE_TRAINING = ("SIGUSR1", "SIGUSR2")
"""Noted from a script's first line on. SIGTERM ends the process until there is something to save."""

_before: dict[str, Any] = {}
_received: list[str] = []
_listener = 0


def listen(names: Iterable[str]) -> None:
    """Only note these signals from now on, in this process; others are no longer noted. Main thread only.

    Raises ValueError for a name that is not a signal, or a signal that cannot be caught.
    """
    global _listener
    names = tuple(names)
    for name in names:
        if not isinstance(getattr(signal, name, None), signal.Signals) or name in ("SIGKILL", "SIGSTOP"):
            raise ValueError(
                f"--stop_signals: {name} is not a signal that can be caught (SIGTERM, SIGUSR1, SIGUSR2, ...)"
            )
    _listener = os.getpid()
    for name in [name for name in _before if name not in names]:
        signal.signal(getattr(signal, name), _before.pop(name))
    for name in names:
        previous = signal.signal(getattr(signal, name), _note)
        _before.setdefault(name, previous)


def received() -> str | None:
    """Name of the first signal received."""
    return _received[0] if _received else None


def _note(number: int, frame: FrameType | None) -> None:
    """Only note the signal: it may interrupt the very save that it requests."""
    if os.getpid() != _listener:  # a forked helper: the signal is meant for it alone
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    _received.append(signal.Signals(number).name)
