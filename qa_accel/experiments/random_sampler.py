"""Seed and trial number -> the settings of that trial, and nothing else: no state, no order, no other trial.

Each setting has its own draw, the hash of (seed, number, name), so that a setting that is added to the space leaves the
draws of the others as they are.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

from qa_accel.experiments.space import Parameter
from qa_accel.experiments.trials import Trial

DIGITS = 6
"""Significant ones of a number from a range: a recipe that can be read, and far finer than any score can tell."""


class RandomSampler:
    """Draws each setting independently of the others."""

    def __init__(self, space: tuple[Parameter, ...], seed: int):
        self.space, self.seed = space, seed

    def params(self, number: int) -> dict[str, Any]:
        """Setting -> value of the trial of this number."""
        return {one.name: value_at(one, uniform(self.seed, number, one.name)) for one in self.space}

    def report(self, number: int, evaluation: int, value: float) -> None:
        """Results change nothing here."""

    def catch_up(self, trials: Iterable[Trial]) -> None:
        """Results change nothing here."""


def uniform(seed: int, number: int, name: str) -> float:
    """A number in [0, 1) with 53 random bits, the same on every machine."""
    digest = hashlib.blake2b(json.dumps([seed, number, name]).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def value_at(parameter: Parameter, share: float) -> Any:
    """The value that has this share, in [0, 1), of the parameter's distribution below it."""
    if parameter.kind == "choice":
        return parameter.choices[int(share * len(parameter.choices))]
    low, high = parameter.low, parameter.high
    assert low is not None and high is not None, "a range has both"
    if parameter.log:
        # an integer has the half on either side of it, so that the first and the last are as likely as their neighbours
        half = 0.5 if parameter.kind == "int" else 0.0
        begin, end = math.log(low - half), math.log(high + half)
        found = math.exp(begin + share * (end - begin))
    elif parameter.kind == "int" or parameter.step is not None:
        step = parameter.step or 1
        found = low + step * int(share * (math.floor((high - low) / step * (1 + 1e-12)) + 1))
    else:
        found = low + share * (high - low)
    return rounded(parameter, found)


def rounded(parameter: Parameter, value: float) -> float | int:
    """A value of a range as a recipe holds it."""
    assert parameter.low is not None and parameter.high is not None, "a range has both"
    found = round(value) if parameter.kind == "int" else float(f"{value:.{DIGITS}g}")
    return min(max(found, parameter.low), parameter.high)
