"""Answers and gold answers -> scores of questions that neither the threshold nor the calibration has seen.

The contexts are divided into two halves. What is tuned on one half judges the other, and the other way round, so that every
question is judged once by a model that was tuned without it or its paragraph (cross-fitting in two folds). A threshold that is
tuned on the very questions flatters each model, and one with smoother null odds less than the others.

Axes: Q questions, first those of the second half, then those of the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qa_accel.evaluation import calibration
from qa_accel.evaluation.bootstrap import mean_interval
from qa_accel.evaluation.calibration import GoldAnswers
from qa_accel.evaluation.comparison import METRICS, Difference, difference_of
from qa_accel.evaluation.confidence_figures import figures
from qa_accel.evaluation.listed_spans import ListedSpans
from qa_accel.evaluation.outcomes import EXACT, F1, Outcomes, best_threshold
from qa_accel.inference.answer_lists import Answers


@dataclass(frozen=True, eq=False)
class CrossJudged:
    score_Q2: np.ndarray
    """float64, 0 to 1: exact match and F1."""
    has_answer_Q: np.ndarray
    paragraph_Q: np.ndarray
    thresholds: Sequence[float]
    """Tuned on the first half, and on the second; none where every question has an answer."""
    confidence: Mapping[str, Any]
    """`figures` of all questions; empty where the halves cannot be fitted."""

    def row(self) -> dict[str, Any]:
        """Percent, with 95 % intervals [low, high] where there is more than one context."""
        has_Q, known = self.has_answer_Q, int(self.paragraph_Q.max()) > 0
        found: dict[str, Any] = {}
        for name, column in zip(METRICS, (EXACT, F1)):
            found[name] = 100 * float(self.score_Q2[:, column].mean())
            if known:
                interval = mean_interval(self.score_Q2[:, column], self.paragraph_Q)
                found[f"{name}_interval"] = [100 * end for end in interval]
        if has_Q.any() and not has_Q.all():
            found["HasAns_f1"] = 100 * float(self.score_Q2[has_Q, F1].mean())
            found["NoAns_exact"] = 100 * float(self.score_Q2[~has_Q, EXACT].mean())
        if self.thresholds:
            found["thresholds"] = [max(-1e308, each) for each in self.thresholds]
        return found | dict(self.confidence)


def judge_across(answers: Answers, golds: GoldAnswers, *, version_2_with_negative: bool) -> CrossJudged:
    """`golds` has at least one question."""
    first, second = golds.halves()
    listed = calibration.spans_of_halves(answers, first, second)
    parts, thresholds, sure = [], [], []
    for fitted, judged in ((first, second), (second, first)):
        threshold = _tuned(answers, fitted) if version_2_with_negative else None
        if threshold is not None:
            thresholds.append(threshold)
        if judged.texts:
            outcomes = _outcomes(answers, judged)
            parts.append((outcomes, outcomes.scores_at(threshold)))
            sure.append(_confidences(answers, listed, fitted, judged, threshold, version_2_with_negative))
    paragraphs, begin = [], 0
    for outcomes, _ in parts:
        paragraphs.append(outcomes.paragraph_Q + begin)
        begin += int(outcomes.paragraph_Q.max()) + 1
    known = [pair for pair in sure if pair is not None]
    return CrossJudged(
        score_Q2=np.concatenate([score_Q2 for _, score_Q2 in parts]),
        has_answer_Q=np.concatenate([outcomes.has_answer_Q for outcomes, _ in parts]),
        paragraph_Q=np.concatenate(paragraphs),
        thresholds=thresholds,
        confidence=figures(*map(np.concatenate, zip(*known))) if len(known) == 2 else {},
    )


def gains(ensemble: CrossJudged, members: Sequence[CrossJudged]) -> dict[str, Difference]:
    """By metric: the ensemble minus the mean of these members, question by question, with the interval over contexts."""
    return {
        name: difference_of(
            name,
            [ensemble.score_Q2[:, column]],
            [member.score_Q2[:, column] for member in members],
            ensemble.paragraph_Q,
            with_seeds=False,
        )
        for name, column in zip(METRICS, (EXACT, F1))
    }


def _tuned(answers: Answers, half: GoldAnswers) -> float:
    """The threshold of the best F1; 0 where there is nothing to tune it on, -inf where answering nothing is best."""
    if not half.texts:
        return 0.0
    _, threshold = best_threshold(_outcomes(answers, half), F1)
    return -np.inf if threshold is None else threshold


def _outcomes(answers: Answers, part: GoldAnswers) -> Outcomes:
    return Outcomes.of(answers.best_texts, answers.null_odds, part.texts, part.contexts, part.language)


def _confidences(
    answers: Answers,
    listed: ListedSpans,
    fitted: GoldAnswers,
    judged: GoldAnswers,
    threshold: float | None,
    negative: bool,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Of the judged half, and whether each answer is right; None where the fitted half is too small or of one kind."""
    options: dict[str, Any] = dict(version_2_with_negative=negative, listed=listed)
    try:
        found = calibration.fit(answers, fitted.texts, language=fitted.language, **options)
    except calibration.NotCalibrated:
        return None
    return calibration.judge(answers, judged.texts, found, threshold or 0.0, language=judged.language, **options)
