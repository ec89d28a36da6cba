"""Answers and gold answers -> the numbers of a `Calibration`, and the figures of its confidences.

Fitted on one half of the questions, judged on the other. Both parts are maximum likelihood, over all questions of the half:

    has the question an answer?        sigmoid(-(weight * null_odds + bias)): Platt scaling, by Newton's method as in Lin, Lin
                                       and Weng 2007 ("A note on Platt's probabilistic outputs")
    if so, is the best span right?     temperature scaling (Guo et al. 2017, arXiv:1706.04599), by exact match

So nothing depends on the no-answer threshold, and both are right together where the answer is. Targets are Platt's,
(N+ + 1) / (N+ + 2) and 1 / (N- + 2) in place of 1 and 0, which keep the numbers finite where one number tells all.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qa_accel.answer_language import ENGLISH, AnswerLanguage, language_of, only_language
from qa_accel.evaluation.confidence_figures import auroc, figures
from qa_accel.evaluation.listed_spans import ListedSpans, probability_of_best
from qa_accel.evaluation.squad_scores import exact_and_f1
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.postprocess import Answers

LEAST = 20
"""Questions without which nothing is fitted or judged."""


class NotCalibrated(ValueError):
    """These questions do not say what confidences should be."""


@dataclass(frozen=True)
class GoldAnswers:
    """Of questions, by id."""

    texts: Mapping[str, Sequence[str]]
    """[] for a question without answer."""
    contexts: Mapping[str, str]
    language: AnswerLanguage = ENGLISH

    def halves(self) -> tuple["GoldAnswers", "GoldAnswers"]:
        """By a hash of the context, so that the questions of one paragraph are in the same half, whatever else is in the file."""
        first = {text: hashlib.sha256(text.encode()).digest()[-1] % 2 == 0 for text in set(self.contexts.values())}
        return self._part(first, True), self._part(first, False)

    def _part(self, first: Mapping[str, bool], wanted: bool) -> "GoldAnswers":
        keys = [key for key, text in self.contexts.items() if first[text] == wanted]
        texts = {key: self.texts[key] for key in keys}
        return GoldAnswers(texts, {key: self.contexts[key] for key in keys}, self.language)


def calibrate(
    answers: Answers,
    fitted: GoldAnswers,
    judged: GoldAnswers,
    threshold: float,
    *,
    version_2_with_negative: bool,
    listed: ListedSpans | None = None,
) -> tuple[Calibration, dict[str, Any]]:
    """Fit on one half, and the figures of the other. `threshold`: null odds above which "" is predicted. `listed`: of both halves,
    in the language of `fitted`, if they are known.

    Raises NotCalibrated, with the reason, where there are too few questions or all of one kind.
    """
    for part in (fitted, judged):
        if len(part.texts) < LEAST:
            raise NotCalibrated(
                f"the questions, divided by a hash of their contexts, make a half of {len(part.texts)}; at least {LEAST} are needed"
            )
    listed = listed or spans_of_halves(answers, fitted, judged)
    options: dict[str, Any] = dict(version_2_with_negative=version_2_with_negative, listed=listed)
    calibration = fit(answers, fitted.texts, language=fitted.language, **options)
    return calibration, figures_of(answers, judged, calibration, threshold, **options)


def spans_of_halves(answers: Answers, fitted: GoldAnswers, judged: GoldAnswers) -> ListedSpans:
    """What `calibrate` and `judge` take as `listed`, for either half."""
    return ListedSpans.of(answers, {*fitted.texts, *judged.texts}, only_language(fitted.language))


def figures_of(
    answers: Answers,
    judged: GoldAnswers,
    calibration: Calibration | None,
    threshold: float,
    *,
    version_2_with_negative: bool,
    listed: ListedSpans | None = None,
) -> dict[str, Any]:
    """`figures` of the predictions' confidences and, where questions may have no answer, `answerability`. `listed`: as in `judge`."""
    found = figures(
        *judge(
            answers,
            judged.texts,
            calibration,
            threshold,
            version_2_with_negative=version_2_with_negative,
            language=judged.language,
            listed=listed,
        )
    )
    return found | answerability(answers, judged.texts) if version_2_with_negative else found


def answerability(answers: Answers, golds: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """`answerability_auroc`: the probability that of a question with an answer and one without the first has the lower null
    odds; not given where all questions are of one kind."""
    odds_Q = np.array([answers.null_odds[key] for key in golds])
    area = auroc(-odds_Q, np.array([len(texts) > 0 for texts in golds.values()]))
    return {} if area is None else {"answerability_auroc": area}


def fit(
    answers: Answers,
    golds: Mapping[str, Sequence[str]],
    *,
    version_2_with_negative: bool,
    language: AnswerLanguage = ENGLISH,
    listed: ListedSpans | None = None,
) -> Calibration:
    """The numbers under which these questions' gold answers are likeliest. Raises NotCalibrated, with the reason.

    `language`: of the answers; the calibration keeps it, English where there are several. `listed`: of these questions at least,
    in that language, if they are known.
    """
    keys = [key for key in golds if answers.best_texts[key]]
    if len(keys) < LEAST:
        raise NotCalibrated(f"{len(keys)} questions have a span to judge; at least {LEAST} are needed")
    answerable = [key for key in keys if golds[key]]
    right_Q = np.array(
        [exact_and_f1(answers.best_texts[key], golds[key], language_of(language, key))[0] == 1 for key in answerable],
        bool,
    )
    if not right_Q.any() or right_Q.all():
        raise NotCalibrated(
            f"the best span is {'right' if right_Q.any() else 'wrong'} for each of the {len(answerable)} answerable questions"
        )
    own = only_language(language)
    listed = listed or ListedSpans.of(answers, set(answerable), own)
    rows_Q = listed.rows(answerable)
    temperature = fit_temperature(listed.score_QK[rows_Q], listed.same_QK[rows_Q], right_Q)
    if not version_2_with_negative:
        return Calibration(temperature, answer_language=own)
    has_answer_Q = np.array([len(golds[key]) > 0 for key in keys])
    if has_answer_Q.all():
        raise NotCalibrated(f"none of the {len(keys)} questions is without an answer")
    odds_Q = np.array([answers.null_odds[key] for key in keys])
    slope, intercept = fit_logistic(-odds_Q, has_answer_Q)
    return Calibration(temperature, slope, -intercept, own)


def fit_temperature(score_QK: np.ndarray, same_QK: np.ndarray, right_Q: np.ndarray) -> float:
    """The temperature from 0.01 to 100 under which it is likeliest that the best spans are right where they are."""
    target_Q = _platts_targets(right_Q)

    def loss(log_temperature: float) -> float:
        p_Q = probability_of_best(score_QK, same_QK, math.exp(log_temperature))
        p_Q = np.clip(p_Q, 1e-12, 1 - 1e-12)
        return float(-(target_Q * np.log(p_Q) + (1 - target_Q) * np.log(1 - p_Q)).mean())

    # The loss need not have one minimum only: a grid finds the valley, golden section its lowest point.
    grid = np.linspace(math.log(0.01), math.log(100), 61)
    best = int(np.argmin([loss(x) for x in grid]))
    return math.exp(_minimum(loss, grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Golden section search (Kiefer 1953)."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > 1e-6:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2


def fit_logistic(x_Q: np.ndarray, label_Q: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of sigmoid(slope * x + intercept), the probability of a true label."""
    middle, spread = float(x_Q.mean()), float(x_Q.std()) or 1.0
    design_Q2 = np.stack([(x_Q - middle) / spread, np.ones(len(x_Q))], axis=1)
    target_Q = _platts_targets(label_Q)

    def loss(beta_2: np.ndarray) -> float:
        logit_Q = design_Q2 @ beta_2
        return float((np.logaddexp(0, logit_Q) - target_Q * logit_Q).mean())

    beta_2 = np.zeros(2)
    for _ in range(100):
        p_Q = 1 / (1 + np.exp(-(design_Q2 @ beta_2)))
        gradient_2 = design_Q2.T @ (p_Q - target_Q) / len(x_Q)
        hessian_22 = (design_Q2 * (p_Q * (1 - p_Q))[:, None]).T @ design_Q2 / len(x_Q) + 1e-12 * np.eye(2)
        step_2 = np.linalg.solve(hessian_22, gradient_2)
        size = 1.0
        while size > 1e-8 and loss(beta_2 - size * step_2) > loss(beta_2):
            size /= 2  # too far: the loss is convex, so a shorter step goes down
        beta_2 = beta_2 - size * step_2
        if np.abs(gradient_2).max() < 1e-10:
            break
    slope = float(beta_2[0]) / spread
    return slope, float(beta_2[1]) - slope * middle


def _platts_targets(label_Q: np.ndarray) -> np.ndarray:
    positive = int(label_Q.sum())
    return np.where(label_Q, (positive + 1) / (positive + 2), 1 / (len(label_Q) - positive + 2))


def judge(
    answers: Answers,
    golds: Mapping[str, Sequence[str]],
    calibration: Calibration | None,
    threshold: float,
    *,
    version_2_with_negative: bool,
    language: AnswerLanguage = ENGLISH,
    listed: ListedSpans | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of each question's prediction, and whether it is right. Without a calibration: the entry's `probability`.

    `listed`: of these questions at least, in the calibration's language, if they are known.
    """
    negative = version_2_with_negative
    if calibration is None:
        known: Any = ({entry["text"]: entry["probability"] for entry in reversed(answers.nbest[key])} for key in golds)
    else:
        known = _calibrated(answers, golds, calibration, negative=negative, listed=listed)
    confidences, correct = [], []
    for (key, texts), confidence_of in zip(golds.items(), known, strict=True):
        best = answers.best_texts[key]
        empty_wins = best not in confidence_of or (negative and answers.null_odds[key] > threshold)
        prediction = "" if empty_wins else best
        confidences.append(confidence_of[prediction])
        correct.append(exact_and_f1(prediction, texts, language_of(language, key))[0])
    return np.array(confidences), np.array(correct)


def _calibrated(
    answers: Answers,
    golds: Mapping[str, Sequence[str]],
    calibration: Calibration,
    *,
    negative: bool,
    listed: ListedSpans | None,
) -> Iterator[dict[str, float]]:
    """Of each question, the confidence of its best span, if it has one, and of the empty answer."""
    listed = listed or ListedSpans.of(answers, golds, calibration.answer_language)
    rows_Q = listed.rows(golds)
    has_span_Q = listed.count_Q[rows_Q] > 0
    p_Q = np.zeros(len(rows_Q))
    own_Q = rows_Q[has_span_Q]
    p_Q[has_span_Q] = probability_of_best(listed.score_QK[own_Q], listed.same_QK[own_Q], calibration.temperature)
    for key, has_span, p in zip(golds, has_span_Q.tolist(), p_Q.tolist()):
        if not has_span:  # "no answer" is certain, and impossible if every question is known to have one
            yield {"": float(negative)}
            continue
        answerable = calibration.answerable(answers.null_odds[key]) if negative else 1.0
        yield {"": 1.0 - answerable, answers.best_texts[key]: answerable * p}
