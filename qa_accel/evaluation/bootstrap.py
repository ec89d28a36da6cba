"""Scores per question -> intervals for their means. Paragraphs are resampled, not questions.

Questions on one paragraph are right or wrong together more often than questions on two: resampling single questions would give
intervals that are too narrow. So whole paragraphs are drawn with replacement, as many as there are, and the mean is taken over
the questions of what was drawn: the cluster bootstrap (Field and Welsh 2007) with percentile intervals (Efron 1979).

Axes: Q questions, P paragraphs, R resamples.
"""

from collections.abc import Iterator

import numpy as np

from qa_accel.evaluation.outcomes import Outcomes

RESAMPLES = 2000
LEVEL = 0.95
_CELLS = 4_000_000  # of resamples x questions in memory at once


def mean_interval(score_Q: np.ndarray, paragraph_Q: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of `score_Q`; of a paired difference, give the differences.

    Both ends are the mean itself where there is one paragraph only.
    """
    sum_P = np.bincount(paragraph_Q, weights=score_Q)
    count_P = np.bincount(paragraph_Q).astype(np.float64)
    means_R = np.concatenate([(n_RP @ sum_P) / (n_RP @ count_P) for n_RP in draws(len(sum_P), seed)])
    return interval_of(means_R)


def best_interval(outcomes: Outcomes, column: int, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the best score, 0 to 1; each resample finds its own best threshold."""
    assert outcomes.null_odds_Q is not None
    order = np.argsort(outcomes.null_odds_Q, kind="stable")
    empty_Q = outcomes.empty_Q2[order, column]
    gain_Q = outcomes.score_Q2[order, column] - empty_Q
    paragraph_Q = outcomes.paragraph_Q[order]
    best = []
    for n_RP in draws(int(paragraph_Q.max()) + 1, seed, per_row=len(order)):
        n_RQ = n_RP[:, paragraph_Q]
        highest_R = np.maximum(np.cumsum(n_RQ * gain_Q, axis=1).max(axis=1), 0.0)
        best.append((n_RQ @ empty_Q + highest_R) / n_RQ.sum(axis=1))
    return interval_of(np.concatenate(best))


def draws(paragraphs: int, seed: int, per_row: int = 0) -> Iterator[np.ndarray]:
    """(R, P) how often each paragraph is drawn, some resamples at a time, RESAMPLES in all.

    per_row: numbers that the caller makes of one resample, so that few resamples come at once where these are many.
    """
    generator = np.random.default_rng(seed)
    left, at_once = RESAMPLES, max(1, _CELLS // max(paragraphs, per_row))
    equally = np.full(paragraphs, 1 / paragraphs)
    while left:
        count = min(left, at_once)
        yield generator.multinomial(paragraphs, equally, size=count).astype(np.float64)
        left -= count


def interval_of(values_R: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
