"""The best trials of a sweep and their re-runs with fresh seeds -> by how much the best one was lucky.

A trial's value is what its recipe gives on average over seeds, plus the luck of its seed. Whoever takes the best of many trials
takes one with luck, so its value is more than the recipe will give again. Re-runs of the same recipe with other seeds show by how
much (`Confirmed`). The interval of the difference is that of a prediction (Hahn and Meeker, Statistical Intervals, 1991): the mean of the re-runs
has the luck of n seeds, and the trial's value that of one more. The optimism that is to be expected beforehand is that of a
parametric bootstrap (Efron and Tibshirani 1993, chapter 6): noise of the seeds' size is drawn again for every trial, and the
noise of the winner is averaged. The best mean of re-runs is the best of some, too, and is corrected in the same way (`Expectation`).
Intervals need scipy (extra `report`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from qa_accel.evaluation.significance import NO_SPREAD, SeedDifference, pooled_deviation, seed_difference

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


@dataclass(frozen=True)
class Expectation:
    """What the trial with the best mean of re-runs will score with further seeds."""

    trial: int
    mean: float
    """Of its re-runs."""
    optimism: float
    """By how much the best of these means is too good on average."""
    error: float
    """Standard error of `mean`."""
    freedom: int

    @property
    def value(self) -> float:
        return self.mean - self.optimism

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the recipe's mean over all seeds, by Student's t."""
        half = _t_quantile(self.freedom) * self.error
        return self.value - half, self.value + half


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
        return with_reruns(self.top)

    def interval(self, each: Confirmed) -> tuple[float, float] | None:
        """95 % interval of the difference of one of `top`: without 0 in it, the value is more than the luck of one seed away from
        the re-runs. None where the spread is not known, as of re-runs that all score the same."""
        if each.difference is None or self.deviation is None or self.deviation < NO_SPREAD:
            return None
        half = _t_quantile(self.freedom) * self.deviation * (1 + 1 / len(each.reruns)) ** 0.5
        return each.difference - half, each.difference + half


def with_reruns(top: Sequence[Confirmed]) -> list[Confirmed]:
    return [each for each in top if each.reruns]


def best_by_reruns(top: Sequence[Confirmed]) -> list[Confirmed]:
    """Those with re-runs, the best mean first; of equal ones the better one in the sweep."""
    return sorted(with_reruns(top), key=lambda each: -(each.mean or 0.0))


def expectation(top: Sequence[Confirmed]) -> Expectation | None:
    """Of the best by re-runs; None where the spread over seeds is not known."""
    confirmed = best_by_reruns(top)
    deviation, freedom = pooled_deviation([each.reruns for each in confirmed])
    if deviation is None or deviation < NO_SPREAD:
        return None
    error_T = deviation / np.array([len(each.reruns) for each in confirmed]) ** 0.5
    mean_T = np.array([each.mean for each in confirmed])
    optimism = expected_optimism(mean_T, error_T)
    return Expectation(confirmed[0].trial, float(mean_T[0]), optimism, float(error_T[0]), freedom)


def luck(values: Sequence[float], top: Sequence[Confirmed]) -> Luck:
    """`values`: of all finished trials, those of `top` included. Needs scipy."""
    deviation, freedom = pooled_deviation([each.reruns for each in top])
    value_T = np.asarray(values, np.float64)
    known = deviation is not None and len(value_T) > 0
    confirmed = with_reruns(top)
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


def _t_quantile(freedom: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.975, freedom))


def expected_optimism(value_T: np.ndarray, deviation: float | np.ndarray | None) -> float:
    """Mean noise of the trial that wins, the highest, where a trial's value has noise of this deviation: one, or one each (T,).

    Observed values are further apart than the recipes behind them, by the noise: they are drawn together to the spread that
    noise leaves unexplained, so that trials that differ by noise alone count as equally good.
    """
    if deviation is None or not np.any(deviation) or len(value_T) < 2:
        return 0.0
    variance = float(np.var(value_T, ddof=1))
    unexplained = max(0.0, 1 - float(np.mean(np.square(deviation))) / variance) ** 0.5 if variance else 0.0
    true_T = value_T.mean() + unexplained * (value_T - value_T.mean())
    generator = np.random.default_rng(0)
    total, at_once = 0.0, max(1, min(SIMULATIONS, NUMBERS_AT_ONCE // len(true_T)))
    for start in range(0, SIMULATIONS, at_once):
        noise_RT = generator.normal(0, deviation, (min(at_once, SIMULATIONS - start), len(true_T)))
        winner_R = (true_T + noise_RT).argmax(axis=1)
        total += float(noise_RT[np.arange(len(noise_RT)), winner_R].sum())
    return total / SIMULATIONS
