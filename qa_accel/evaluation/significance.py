"""Whether a difference is more than chance: a slice against the rest, flipped questions, two sets of seeds.

Needs scipy (extra `report`). Axes: S slices, Q questions of one family of slices, P paragraphs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.05
LEAST = 10
"""Questions of a slice, and of the rest, below which it is not tested."""


def slice_p_value(in_Q: np.ndarray, wrong_Q: np.ndarray, paragraph_Q: np.ndarray) -> float:
    """Two-sided p-value that the questions of a slice are as often wrong as the rest; NaN for a slice that is too small.

    The larger of two: Fisher's exact test, which takes questions as independent, and a t-test with paragraphs as units, whose
    variance allows questions of one paragraph to be wrong together (the sandwich estimator, Liang and Zeger 1986; degrees of
    freedom: the fewer paragraphs of both sides, minus 1). Where either holds its level, the larger does.
    """
    from scipy import stats

    inside, outside = int(in_Q.sum()), int((~in_Q).sum())
    if min(inside, outside) < LEAST:
        return float("nan")
    wrong_in, wrong_out = int(wrong_Q[in_Q].sum()), int(wrong_Q[~in_Q].sum())
    table = [[wrong_in, inside - wrong_in], [wrong_out, outside - wrong_out]]
    result: Any = stats.fisher_exact(table)
    return max(float(result.pvalue), _clustered_p_value(in_Q, wrong_Q, paragraph_Q))


def _clustered_p_value(in_Q: np.ndarray, wrong_Q: np.ndarray, paragraph_Q: np.ndarray) -> float:
    from scipy import stats

    freedom = min(len(np.unique(paragraph_Q[in_Q])), len(np.unique(paragraph_Q[~in_Q]))) - 1
    if freedom < 1:
        return 1.0  # one paragraph: what is its own cannot be told from what is the slice's
    mean_in, mean_out = wrong_Q[in_Q].mean(), wrong_Q[~in_Q].mean()
    influence_Q = np.where(in_Q, (wrong_Q - mean_in) / in_Q.sum(), -(wrong_Q - mean_out) / (~in_Q).sum())
    _, of_Q = np.unique(paragraph_Q, return_inverse=True)
    influence_P = np.bincount(of_Q, weights=influence_Q)
    variance = float((influence_P**2).sum()) * len(influence_P) / (len(influence_P) - 1)
    difference = float(mean_in - mean_out)
    if variance == 0:  # each side is right or wrong throughout: Fisher's test decides
        return 0.0 if difference else 1.0
    return float(2 * stats.t.sf(abs(difference) / variance**0.5, freedom))


def holm(p_S: np.ndarray) -> np.ndarray:
    """P-values corrected for their number (Holm 1979): with those below 0.05, the chance of one false claim or more is below
    0.05. NaN stays, and does not count."""
    tested = np.flatnonzero(~np.isnan(p_S))
    corrected_S = np.full(len(p_S), np.nan)
    order = tested[np.argsort(p_S[tested], kind="stable")]
    steps = p_S[order] * np.arange(len(order), 0, -1)
    corrected_S[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected_S


def sign_test(better: int, worse: int) -> float:
    """Two-sided p-value of the exact sign test: that of the questions that differ, half get better. 1.0 if none differs."""
    from scipy import stats

    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


@dataclass(frozen=True)
class SeedDifference:
    """Mean of one set of runs minus that of another."""

    difference: float
    low: float
    high: float
    """95 % interval by Welch's t-test."""
    p_value: float

    @property
    def beyond_chance(self) -> bool:
        return self.p_value < LEVEL


def seed_difference(one: Sequence[float], other: Sequence[float]) -> SeedDifference | None:
    """Welch's t-test (1947): unequal spreads allowed. None where a side has one run only, whose spread is unknown."""
    from scipy import stats

    if min(len(one), len(other)) < 2:
        return None
    difference = float(np.mean(one) - np.mean(other))
    if np.ptp(one) == 0 and np.ptp(other) == 0:  # no spread at all, as of a training that does not depend on its seed
        return SeedDifference(difference, difference, difference, 0.0 if difference else 1.0)
    result: Any = stats.ttest_ind(one, other, equal_var=False)
    interval = result.confidence_interval(0.95)
    return SeedDifference(difference, float(interval.low), float(interval.high), float(result.pvalue))
