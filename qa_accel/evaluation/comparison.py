"""The same questions answered by two models, each maybe with several seeds -> whether one is better, and where.

Each side's score of a question is its mean over the side's runs. Intervals resample paragraphs of the paired differences (see
`bootstrap`); flips are counted by the exact sign test, of slices also by the paragraphs that they are on; seeds by Welch's t-test.
Needs scipy (extra `report`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qa_accel.evaluation.bootstrap import LEAST_PARAGRAPHS, mean_interval
from qa_accel.evaluation.outcomes import EXACT, F1
from qa_accel.evaluation.significance import LEAST, LEVEL, SeedDifference, holm, seed_difference, sign_test

METRICS = ("exact", "f1")


@dataclass(frozen=True)
class Difference:
    """One side minus the other, in points of percent."""

    metric: str
    one: float
    other: float
    low: float | None
    high: float | None
    """95 % interval of the difference; None of one paragraph, whose spread is unknown."""
    paragraphs: int
    seeds: SeedDifference | None
    """Whether it is more than the spread of seeds; None where that spread is unknown."""

    @property
    def difference(self) -> float:
        return self.one - self.other

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval over paragraphs excludes 0 and, where it is known, so does that over seeds. Never of so few
        paragraphs that the interval of these would often exclude 0 by chance."""
        if self.has_few_paragraphs or self.low is None or self.high is None:
            return False
        return (self.low > 0 or self.high < 0) and (self.seeds is None or self.seeds.beyond_chance)

    @property
    def has_few_paragraphs(self) -> bool:
        return self.paragraphs < LEAST_PARAGRAPHS


@dataclass(frozen=True)
class SliceDifference:
    family: str
    value: str
    questions: int
    one: float
    other: float
    """Exact match in percent."""
    better: int
    worse: int
    """Questions on which the one side has the higher, or the lower exact match."""
    p_value: float | None
    """The larger one of the sign tests on questions and on paragraphs (on which the gain is more than the loss, or less),
    corrected for the number of slices; None: too few questions to test."""

    @property
    def beyond_chance(self) -> bool:
        return self.p_value is not None and self.p_value < LEVEL


@dataclass(frozen=True)
class Comparison:
    questions: int
    differences: Mapping[str, Difference]
    """By metric."""
    better: int
    worse: int
    """Questions on which the one side has the higher, or the lower exact match: the flips."""
    p_value: float
    """Of the exact sign test on the flips."""
    slices: Sequence[SliceDifference]
    """Beyond chance first, by the number of flips that are not made up for."""


def compare(
    one: Sequence[np.ndarray],
    other: Sequence[np.ndarray],
    paragraph_Q: np.ndarray,
    slices: Mapping[tuple[str, str], np.ndarray],
    *,
    with_seeds: bool = True,
) -> Comparison:
    """(Q, 2) exact match and F1, 0 to 1, of each run of both sides; `slices`: (family, value) -> rows. `with_seeds`: the runs of
    a side are of different seeds, so that their spread is that of seeds."""
    one_Q2, other_Q2 = np.mean(one, axis=0), np.mean(other, axis=0)
    differences = {
        metric: difference_of(
            metric,
            [run_Q2[:, column] for run_Q2 in one],
            [run_Q2[:, column] for run_Q2 in other],
            paragraph_Q,
            with_seeds=with_seeds,
        )
        for metric, column in zip(METRICS, (EXACT, F1))
    }
    better, worse = _signs(one_Q2[:, EXACT] - other_Q2[:, EXACT])
    return Comparison(
        questions=len(one_Q2),
        differences=differences,
        better=better,
        worse=worse,
        p_value=sign_test(better, worse),
        slices=_slices(one_Q2, other_Q2, paragraph_Q, slices),
    )


def difference_of(
    metric: str, one: Sequence[np.ndarray], other: Sequence[np.ndarray], paragraph_Q: np.ndarray, *, with_seeds: bool
) -> Difference:
    """`one`, `other`: of each run the score of every question, (Q,), 0 to 1."""
    here, there = ([100 * float(score_Q.mean()) for score_Q in runs] for runs in (one, other))
    paragraphs = len(np.unique(paragraph_Q))
    low, high = mean_interval(100 * (np.mean(one, axis=0) - np.mean(other, axis=0)), paragraph_Q)
    return Difference(
        metric=metric,
        one=float(np.mean(here)),
        other=float(np.mean(there)),
        low=low if paragraphs > 1 else None,
        high=high if paragraphs > 1 else None,
        paragraphs=paragraphs,
        seeds=seed_difference(here, there) if with_seeds else None,
    )


def _slices(
    one_Q2: np.ndarray, other_Q2: np.ndarray, paragraph_Q: np.ndarray, slices: Mapping[tuple[str, str], np.ndarray]
) -> list[SliceDifference]:
    sign_Q = np.sign(one_Q2[:, EXACT] - other_Q2[:, EXACT])
    counts, p_values = [], []
    for rows in slices.values():
        counts.append(_signs(sign_Q[rows]))
        # a model that gained on a few paragraphs has many flips there that are one event each
        of_paragraphs = _signs(np.bincount(paragraph_Q[rows], weights=sign_Q[rows]))
        enough = len(rows) >= LEAST
        p_values.append(max(sign_test(*counts[-1]), sign_test(*of_paragraphs)) if enough else np.nan)
    found = [
        SliceDifference(
            *name,
            questions=len(rows),
            one=100 * float(one_Q2[rows, EXACT].mean()),
            other=100 * float(other_Q2[rows, EXACT].mean()),
            better=better,
            worse=worse,
            p_value=None if np.isnan(p) else float(p),
        )
        for (name, rows), (better, worse), p in zip(slices.items(), counts, holm(np.array(p_values)))
    ]
    return sorted(found, key=lambda each: (not each.beyond_chance, -abs(each.better - each.worse)))


def _signs(values: np.ndarray) -> tuple[int, int]:
    """How many are above 0, and how many below."""
    return int((values > 0).sum()), int((values < 0).sum())
