"""Seconds on the machine that the limits were chosen on -> seconds on this machine, as it is loaded now."""

import subprocess
import sys
import time
from functools import cache

WORK = """import numpy
left, total = numpy.ones((400, 400)), 0
for number in range(1_500_000):
    total += number * number % 7
for _ in range(20):
    left = left @ left / 400"""
"""What tests that start processes do: load a library, run Python, multiply."""
SECONDS_OF_WORK = 0.35
"""Of two processes that do WORK at once on two idle cores of an AMD EPYC server."""
MOST = 8
"""The largest factor of a limit: a process that hangs must end."""


@cache
def slowness() -> float:
    """How many times as long as on that machine two processes take here, at least 1. Measured once per session."""
    began = time.monotonic()
    both = [subprocess.Popen([sys.executable, "-c", WORK]) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0], "the measurement itself must not fail"
    return min(max((time.monotonic() - began) / SECONDS_OF_WORK, 1.0), MOST)


def scaled(seconds: float) -> float:
    """A limit of so many seconds, for this machine."""
    return seconds * slowness()
