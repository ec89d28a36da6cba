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
NO_SPREAD = 1e-9
"""Points of percent: by less, only rounding makes the scores of two runs differ."""


def slice_p_value(in_Q: np.ndarray, wrong_Q: np.ndarray, paragraph_Q: np.ndarray) -> float:
    """Two-sided p-value that the questions of a slice are as often wrong as the rest; NaN for a slice that is too small.

    `paragraph_Q`: 0 to P - 1. The larger of two, both of which allow questions of one paragraph to be wrong together: Fisher's
    exact test with fewer questions, as many as would say the same were each of its own paragraph; and a t-test with paragraphs
    as units. The first trusts paragraphs of all slices to be equally alike, the second that there are enough of them.
    """
    wrong_Q = wrong_Q.astype(bool)
    paragraphs = int(paragraph_Q.max(initial=-1)) + 1
    count_2P, wrong_2P = (
        np.stack([np.bincount(paragraph_Q[side_Q & of_Q], minlength=paragraphs) for side_Q in (in_Q, ~in_Q)])
        for of_Q in (np.ones_like(in_Q), wrong_Q)
    )
    if count_2P.sum(axis=1).min() < LEAST:
        return float("nan")
    return max(_of_counts(count_2P, wrong_2P), _of_paragraphs(count_2P, wrong_2P))


def _of_counts(count_2P: np.ndarray, wrong_2P: np.ndarray) -> float:
    """Fisher's exact test on counts divided by the design effect (Rao and Scott 1981): the difference's variance over what it
    would be of independent questions, at least 1."""
    from scipy import stats

    count_2, wrong_2 = count_2P.sum(axis=1), wrong_2P.sum(axis=1)
    share_2P = count_2P / count_2[:, None]
    together = ((share_2P[0] - share_2P[1]) ** 2).sum() / (1 / count_2).sum()
    effect = max(1.0, 1 + _likeness(count_2P.sum(axis=0), wrong_2P.sum(axis=0)) * (together - 1))
    table = np.rint(np.stack([wrong_2, count_2 - wrong_2]) / effect).astype(int)
    result: Any = stats.fisher_exact(table)
    return float(result.pvalue)


def _likeness(count_P: np.ndarray, wrong_P: np.ndarray) -> float:
    """Intraclass correlation, 0 to 1: how far questions of one paragraph are right or wrong together, by analysis of variance
    (Fisher 1925). 1 where no paragraph has two questions, for which it does not matter."""
    count_P, wrong_P = count_P[count_P > 0], wrong_P[count_P > 0]
    paragraphs, questions = len(count_P), int(count_P.sum())
    if paragraphs in (1, questions):
        return 1.0
    mean = wrong_P.sum() / questions
    between = (count_P * (wrong_P / count_P - mean) ** 2).sum() / (paragraphs - 1)
    within = (wrong_P - wrong_P**2 / count_P).sum() / (questions - paragraphs)
    usual_size = (questions - (count_P**2).sum() / questions) / (paragraphs - 1)
    total = between + (usual_size - 1) * within
    return float(np.clip((between - within) / total, 0, 1)) if total > 0 else 0.0


def _of_paragraphs(count_2P: np.ndarray, wrong_2P: np.ndarray) -> float:
    """t-test by the sandwich estimator (Liang and Zeger 1986) with the correction for few paragraphs of Bell and McCaffrey
    (2002); degrees of freedom: the fewer paragraphs of both sides, those of unequal size counted as fewer (Kish 1965), minus 1."""
    from scipy import stats

    count_2 = count_2P.sum(axis=1, keepdims=True)
    mean_2 = wrong_2P.sum(axis=1, keepdims=True) / count_2
    share_2P = count_2P / count_2
    if share_2P.max() == 1:
        return 1.0  # one paragraph: what is its own cannot be separated from what is the slice's
    influence_2P = (wrong_2P - mean_2 * count_2P) / count_2 / np.sqrt(1 - share_2P)
    variance = float(((influence_2P[0] - influence_2P[1]) ** 2).sum())
    difference = float(mean_2[0, 0] - mean_2[1, 0])
    if variance == 0:  # each side is right or wrong throughout: the counts decide
        return 0.0 if difference else 1.0
    freedom = float((1 / (share_2P**2).sum(axis=1)).min()) - 1
    return float(2 * stats.t.sf(abs(difference) / variance**0.5, freedom))


def shown_p(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


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


def seed_interval(scores: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean over all seeds, from those of some: Student's t (1908), for scores that are normally
    distributed. None of one run; nor of runs that all score the same, which are copies, or do not depend on the seed."""
    from scipy import stats

    if len(scores) < 2 or np.ptp(scores) < NO_SPREAD:
        return None
    half = float(stats.t.ppf(0.975, len(scores) - 1)) * float(np.std(scores, ddof=1)) / len(scores) ** 0.5
    mean = float(np.mean(scores))
    return mean - half, mean + half


def pooled_deviation(groups: Sequence[Sequence[float]]) -> tuple[float | None, int]:
    """Standard deviation within groups that may have different means, and its degrees of freedom; None, 0 without a pair."""
    freedom = sum(max(len(group) - 1, 0) for group in groups)
    if not freedom:
        return None, 0
    squares = sum(float(((np.array(group) - np.mean(group)) ** 2).sum()) for group in groups if len(group))
    return (squares / freedom) ** 0.5, freedom


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
    """Scores in percent of the runs of both sides, by Welch's t-test (1947): unequal spreads allowed.

    None where the spread is unknown: a side has one run only, or no run scores otherwise than the rest of its side, which of
    different seeds is chance, and would make any difference certain.
    """
    from scipy import stats

    if min(len(one), len(other)) < 2 or max(np.ptp(one), np.ptp(other)) < NO_SPREAD:
        return None
    difference = float(np.mean(one) - np.mean(other))
    of_mean = [float(np.var(scores, ddof=1)) / len(scores) for scores in (one, other)]
    error = sum(of_mean) ** 0.5
    freedom = error**4 / sum(v**2 / (len(scores) - 1) for v, scores in zip(of_mean, (one, other)))
    half = float(stats.t.ppf(0.975, freedom)) * error
    p_value = float(2 * stats.t.sf(abs(difference) / error, freedom))
    return SeedDifference(difference, difference - half, difference + half, p_value)
