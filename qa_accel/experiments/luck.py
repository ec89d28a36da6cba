"""The best trials of a sweep and their re-runs with fresh seeds -> by how much the best one was lucky.

A trial's value is what its recipe gives on average over seeds, plus the luck of its seed. Whoever takes the best of many trials
takes one with luck, so its value is more than the recipe will give again. Re-runs of the same recipe with other seeds show by how
much (`Confirmed`), with an interval by Student's t over the re-runs. The optimism that is to be expected beforehand is that of a
parametric bootstrap (Efron and Tibshirani 1993, chapter 6): noise of the seeds' size is drawn again for every trial, and the
noise of the winner is averaged. Needs scipy (extra `report`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from qa_accel.evaluation.significance import SeedDifference, seed_difference

SIMULATIONS = 2000
NUMBERS_AT_ONCE = 1_000_000
"""Of one draw of simulations; each takes 8 bytes."""


@dataclass(frozen=True)
class Confirmed:
    """One of the best trials and its re-runs."""

    trial: int
    value: float
    """In the sweep."""
    reruns: tuple[float, ...]
    """Values of the finished re-runs."""

    @property
    def mean(self) -> float | None:
        return float(np.mean(self.reruns)) if self.reruns else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the re-runs; None of fewer than two."""
        return float(np.std(self.reruns, ddof=1)) if len(self.reruns) > 1 else None

    @property
    def difference(self) -> float | None:
        """Value in the sweep minus mean of the re-runs."""
        return None if self.mean is None else self.value - self.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of `difference`, for the value as it was and the mean over all seeds; None of fewer than two re-runs."""
        from scipy import stats

        if self.difference is None or self.deviation is None:
            return None
        half = float(stats.t.ppf(0.975, len(self.reruns) - 1)) * self.deviation / len(self.reruns) ** 0.5
        return self.difference - half, self.difference + half


@dataclass(frozen=True)
class Luck:
    top: tuple[Confirmed, ...]
    """The best trials in the order of the sweep."""
    deviation: float | None
    """Standard deviation over seeds, pooled over the trials that were run again; None where none was run again twice."""
    freedom: int
    """Degrees of freedom of `deviation`."""
    expected: float | None
    """By how much the best trial's value is better than its recipe is, on average over such sweeps."""
    most: float | None
    """The same if all trials were equally good: the difference could not be larger by selection alone."""
    pairs: tuple[tuple[int, int, SeedDifference | None], ...]
    """Of each two of the best with re-runs: their trials, the better one in the sweep first, and the first one's mean minus the
    other's; None where the spread is unknown."""

    @property
    def confirmed(self) -> list[Confirmed]:
        return [each for each in self.top if each.reruns]


def luck(values: Sequence[float], top: Sequence[Confirmed], *, higher_is_better: bool = True) -> Luck:
    """`values`: of all finished trials, those of `top` included."""
    deviation, freedom = pooled_deviation([each.reruns for each in top])
    sign = 1.0 if higher_is_better else -1.0
    value_T = sign * np.asarray(values, np.float64)
    known = deviation is not None and len(value_T) > 0
    confirmed = [each for each in top if each.reruns]
    return Luck(
        top=tuple(top),
        deviation=deviation,
        freedom=freedom,
        expected=expected_optimism(value_T, deviation) if known else None,
        most=expected_optimism(np.zeros(len(value_T)), deviation) if known else None,
        pairs=tuple(
            (one.trial, other.trial, seed_difference(one.reruns, other.reruns))
            for one, other in combinations(confirmed, 2)
        ),
    )


def pooled_deviation(groups: Sequence[Sequence[float]]) -> tuple[float | None, int]:
    """Standard deviation within groups that may have different means, and its degrees of freedom."""
    freedom = sum(max(len(group) - 1, 0) for group in groups)
    if not freedom:
        return None, 0
    squares = sum(float(((np.array(group) - np.mean(group)) ** 2).sum()) for group in groups if group)
    return (squares / freedom) ** 0.5, freedom


def expected_optimism(value_T: np.ndarray, deviation: float | None) -> float:
    """Mean noise of the trial that wins, higher values being better, where every trial's value has noise of this deviation.

    Observed values are further apart than the recipes behind them, by the noise: they are drawn together to the spread that
    noise leaves unexplained, so that trials that differ by noise alone count as equally good.
    """
    if not deviation or len(value_T) < 2:
        return 0.0
    variance = float(np.var(value_T, ddof=1))
    unexplained = max(0.0, 1 - deviation**2 / variance) ** 0.5 if variance else 0.0
    true_T = value_T.mean() + unexplained * (value_T - value_T.mean())
    generator = np.random.default_rng(0)
    total, at_once = 0.0, max(1, min(SIMULATIONS, NUMBERS_AT_ONCE // len(true_T)))
    for start in range(0, SIMULATIONS, at_once):
        noise_RT = generator.normal(0, deviation, (min(at_once, SIMULATIONS - start), len(true_T)))
        winner_R = (true_T + noise_RT).argmax(axis=1)
        total += float(noise_RT[np.arange(len(noise_RT)), winner_R].sum())
    return total / SIMULATIONS
