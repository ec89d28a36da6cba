"""Scores per question -> intervals for their means. Paragraphs are resampled, not questions.

Questions on one paragraph are right or wrong together more often than questions on two: resampling single questions would give
intervals that are too narrow. So whole paragraphs are drawn with replacement, as many as there are, and the mean is taken over
the questions of what was drawn: the cluster bootstrap (Field and Welsh 2007) with percentile intervals (Efron 1979). Of few
paragraphs, percentiles give intervals that are too narrow: here they are as far out as a t-interval's (Hesterberg 2015).

Needs scipy (extra `report`). Axes: Q questions, P paragraphs, R resamples.
"""

from collections.abc import Iterator

import numpy as np

from qa_accel.evaluation.outcomes import Outcomes

RESAMPLES = 2000
LEVEL = 0.95
LEAST_PARAGRAPHS = 6
"""With fewer, an interval excludes 0 by chance in more than 1 - LEVEL of all cases: 5 paragraphs all have the same sign in
2 / 2 ** 5 = 6 % of them."""


def mean_interval(score_Q: np.ndarray, paragraph_Q: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of `score_Q`; of a paired difference, give the differences.

    Both ends are the mean itself where there is one paragraph only: nothing is known of its spread.
    """
    means_R = resampled_means(score_Q, paragraph_Q, seed)
    return interval_of(means_R, int(paragraph_Q.max()) + 1)


def resampled_means(score_Q: np.ndarray, paragraph_Q: np.ndarray, seed: int = 0) -> np.ndarray:
    """(R,) the mean of each resample. Scores on the same questions have the same resamples."""
    count_P = np.bincount(paragraph_Q).astype(np.float64)
    sum_P = np.bincount(paragraph_Q, weights=score_Q)
    return np.array([(n_P @ sum_P) / (n_P @ count_P) for n_P in draws(len(count_P), seed)])


def best_interval(outcomes: Outcomes, column: int, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the best score, 0 to 1; each resample finds its own best threshold."""
    return interval_of(resampled_best(outcomes, column, seed), int(outcomes.paragraph_Q.max()) + 1)


def resampled_best(outcomes: Outcomes, column: int, seed: int = 0) -> np.ndarray:
    """(R,) the best score of each resample, 0 to 1, at its own best threshold. Models have the same resamples."""
    assert outcomes.null_odds_Q is not None
    order = np.argsort(outcomes.null_odds_Q, kind="stable")
    gain_Q = outcomes.gain_Q(column)[order]
    matters = gain_Q != 0
    gain_Q, of_Q = gain_Q[matters], outcomes.paragraph_Q[order][matters]
    count_P = np.bincount(outcomes.paragraph_Q).astype(np.float64)
    empty_P = np.bincount(outcomes.paragraph_Q, weights=~outcomes.has_answer_Q)
    # one resample at a time: its numbers fit into the processor's cache, those of a hundred do not
    best_R = [
        (n_P @ empty_P + np.cumsum(n_P.take(of_Q) * gain_Q).max(initial=0.0)) / (n_P @ count_P)
        for n_P in draws(len(count_P), seed)
    ]
    return np.array(best_R)


def draws(paragraphs: int, seed: int) -> Iterator[np.ndarray]:
    """(P,) how often each paragraph is drawn, RESAMPLES times."""
    generator = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        drawn = generator.integers(paragraphs, size=paragraphs)
        yield np.bincount(drawn, minlength=paragraphs).astype(np.float64)


def interval_of(values_R: np.ndarray, paragraphs: int) -> tuple[float, float]:
    from scipy import stats

    if paragraphs == 1:
        return float(values_R[0]), float(values_R[0])
    # the spread of resamples is too small by sqrt((P - 1) / P), and that of P paragraphs is itself uncertain
    deviations = (paragraphs / (paragraphs - 1)) ** 0.5 * stats.t.ppf((1 + LEVEL) / 2, paragraphs - 1)
    outside = float(stats.norm.sf(deviations))
    low, high = np.quantile(values_R, [outside, 1 - outside])
    return float(low), float(high)
