"""Signals that ask a run to stop -> a note of the first one. Imports nothing heavy: a script listens before it imports torch."""

import os
import signal
from collections.abc import Iterable
from types import FrameType
from typing import Any

STOP_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2")
"""What Slurm, Kubernetes and people send to a run that is to save and leave."""

BEFORE_TRAINING = ("SIGUSR1", "SIGUSR2")
"""Noted from a script's first line on. SIGTERM keeps its meaning until there is something to save."""

_before: dict[str, Any] = {}
_received: list[str] = []
_listener = 0


def listen(names: Iterable[str]) -> None:
    """Only note these signals from here on, in this process; former listening to others ends. Main thread only.

    Raises ValueError for a name that is no signal, or one that cannot be caught.
    """
    global _listener
    names = tuple(names)
    for name in names:
        if not isinstance(getattr(signal, name, None), signal.Signals) or name in ("SIGKILL", "SIGSTOP"):
            raise ValueError(f"--stop_signals: {name} is no signal that can be caught (SIGTERM, SIGUSR1, SIGUSR2, ...)")
    _listener = os.getpid()
    for name in [name for name in _before if name not in names]:
        signal.signal(getattr(signal, name), _before.pop(name))
    for name in names:
        former = signal.signal(getattr(signal, name), _note)
        _before.setdefault(name, former)


def received() -> str | None:
    """The first signal that came, by name."""
    return _received[0] if _received else None


def _note(number: int, frame: FrameType | None) -> None:
    """No more than a note: what the signal interrupts may be the very save that it asks for."""
    if os.getpid() != _listener:  # a forked helper: whoever ends it this way means it
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    _received.append(signal.Signals(number).name)
