"""The runs of a learning curve -> scores with intervals at each size, the fitted law, and what more data would give.

Scores are in percent: exact match and F1 at the threshold that suits the validation data best, or of every answer where each
question has one. Needs scipy (extra `report`).

Axes: S sizes, R resamples of the validation data's contexts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qa_accel.evaluation.bootstrap import interval_of, resampled_best, resampled_means
from qa_accel.evaluation.outcomes import EXACT, F1, Outcomes, best_threshold
from qa_accel.experiments.curve_runs import CurveRun
from qa_accel.experiments.power_law import CurveFit, fit_curve
from qa_accel.reporting.judged_run import judge
from qa_accel.reporting.run_data import GivenData, load_data
from qa_accel.reporting.run_files import read_run

METRICS = {"f1": F1, "exact": EXACT}
MORE = 2
"""Times the data, for which a score is forecast."""


@dataclass(frozen=True)
class Size:
    """One part of the training data."""

    fraction: int
    contexts: int
    questions: tuple[int, ...]
    """Of each run: with several seeds, parts of as many contexts may have other numbers of questions."""
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class MetricCurve:
    """One score at all sizes, in percent."""

    metric: str
    scores: Sequence[Sequence[float]]
    """Of each size those of its runs."""
    intervals: Sequence[tuple[float, float]]
    """95 % of each size's mean, by the contexts of the validation data."""
    fit: CurveFit | None

    @property
    def means(self) -> list[float]:
        return [float(np.mean(runs)) for runs in self.scores]


@dataclass(frozen=True, eq=False)
class LearningCurve:
    sizes: Sequence[Size]
    """The smallest first."""
    curves: dict[str, MetricCurve]
    """By metric."""
    has_threshold: bool
    """Whether the scores are those at the best threshold."""
    source: str
    """Names of the validation files or data set."""
    validation_questions: int
    paragraphs: int
    """Contexts of the validation data."""

    @property
    def contexts_S(self) -> np.ndarray:
        return np.array([size.contexts for size in self.sizes])


def read_curve(runs: Sequence[CurveRun]) -> LearningCurve:
    """Of finished runs. Raises ValueError where their answers or their data cannot be read."""
    found = [(run, read_run(run.folder)) for run in runs]
    data = load_data(found[0][1], GivenData())
    outcomes: dict[int, list[Outcomes]] = {}
    has_threshold = False
    for run, files in found:
        judged = judge(files, data)
        has_threshold = judged.version_2_with_negative and judged.outcomes.null_odds_Q is not None
        outcomes.setdefault(run.contexts, []).append(judged.outcomes)
    sizes = [_size([run for run in runs if run.contexts == contexts]) for contexts in sorted(outcomes)]
    groups = [outcomes[size.contexts] for size in sizes]
    contexts_S = np.array([size.contexts for size in sizes])
    return LearningCurve(
        sizes=sizes,
        curves={metric: metric_curve(metric, contexts_S, groups, has_threshold) for metric in METRICS},
        has_threshold=has_threshold,
        source=data.source,
        validation_questions=len(data.ids),
        paragraphs=int(groups[0][0].paragraph_Q.max()) + 1,
    )


def _size(runs: Sequence[CurveRun]) -> Size:
    questions, seeds = tuple(run.questions for run in runs), tuple(run.seed for run in runs)
    return Size(runs[0].fraction, runs[0].contexts, questions, seeds)


def metric_curve(
    metric: str, contexts_S: np.ndarray, groups: Sequence[Sequence[Outcomes]], has_threshold: bool
) -> MetricCurve:
    """`groups`: of each size the outcomes of its runs, all on the same questions."""
    column = METRICS[metric]
    scores = [[_score(outcomes, column, has_threshold) for outcomes in group] for group in groups]
    resampled_SR = np.array(
        [np.mean([_resampled(outcomes, column, has_threshold) for outcomes in group], axis=0) for group in groups]
    )
    paragraphs = int(groups[0][0].paragraph_Q.max()) + 1
    fit = fit_curve(
        contexts_S,
        1 - np.array([np.mean(runs) for runs in scores]),
        1 - resampled_SR.T,
        paragraphs,
        [[1 - score for score in runs] for runs in scores],
    )
    return MetricCurve(
        metric=metric,
        scores=[[100 * score for score in runs] for runs in scores],
        intervals=[_percent(interval_of(score_R, paragraphs)) for score_R in resampled_SR],
        fit=fit,
    )


def _score(outcomes: Outcomes, column: int, has_threshold: bool) -> float:
    if has_threshold:
        return best_threshold(outcomes, column)[0]
    return float(outcomes.scores_at(None)[:, column].mean())


def _resampled(outcomes: Outcomes, column: int, has_threshold: bool) -> np.ndarray:
    if has_threshold:
        return resampled_best(outcomes, column)
    return resampled_means(outcomes.scores_at(None)[:, column], outcomes.paragraph_Q)


def _percent(interval: tuple[float, float]) -> tuple[float, float]:
    return 100 * interval[0], 100 * interval[1]


@dataclass(frozen=True)
class Forecast:
    """What MORE times the data would give, in points of percent."""

    contexts: int
    score: float
    low: float
    high: float
    """95 % interval of `score`."""
    gain: float
    gain_low: float
    gain_high: float
    """95 % interval of the gain over all of the data."""


def forecast(contexts: int, fit: CurveFit) -> Forecast:
    """By the law at `contexts`, the largest size, and at MORE times that."""
    larger = MORE * contexts
    now, then = fit.at(np.array([contexts, larger]))
    [[low, high]] = fit.interval_at(np.array([larger]))
    gain_low, gain_high = fit.gain_interval(contexts, larger)
    numbers = (1 - then, 1 - high, 1 - low, now - then, gain_low, gain_high)
    return Forecast(larger, *(100 * float(number) for number in numbers))


def as_dict(curve: LearningCurve) -> dict[str, Any]:
    """All numbers of the page, for JSON; scores in percent, errors of the law from 0 to 1."""
    return {
        "validation": {
            "source": curve.source,
            "questions": curve.validation_questions,
            "contexts": curve.paragraphs,
            "best_threshold": curve.has_threshold,
        },
        "sizes": [
            {
                "fraction": size.fraction,
                "contexts": size.contexts,
                "questions": list(size.questions),
                "seeds": list(size.seeds),
            }
            for size in curve.sizes
        ],
        **{metric: _metric_as_dict(each, int(curve.contexts_S[-1])) for metric, each in curve.curves.items()},
    }


def _metric_as_dict(curve: MetricCurve, contexts: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "scores": [list(runs) for runs in curve.scores],
        "means": curve.means,
        "intervals": [list(interval) for interval in curve.intervals],
        "fit": None,
    }
    if (fit := curve.fit) is not None:
        expected = forecast(contexts, fit)
        found["fit"] = {
            "law": "error = a * contexts ** -b + c",
            "a": fit.a,
            "b": fit.b,
            "c": fit.c,
            "b_interval": list(fit.exponent_interval),
            "explained": fit.explained,
            "largest_residual": 100 * fit.largest_residual,
            "poor": fit.is_poor,
            "noise_of_runs": fit.noise.source,
        }
        found[f"with_{MORE}_times_the_data"] = {
            "contexts": expected.contexts,
            "score": expected.score,
            "interval": [expected.low, expected.high],
            "gain": expected.gain,
            "gain_interval": [expected.gain_low, expected.gain_high],
        }
    return found
