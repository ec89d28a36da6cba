"""Answers of a split -> official scores, and the answer policy that suits the data best: threshold and calibration."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qa_accel.answer_language import ENGLISH, AnswerLanguage, as_entry
from qa_accel.data.made_in_chunks import MadeInChunks, Through
from qa_accel.data.named_sets import SetRows
from qa_accel.data.splits import Split
from qa_accel.evaluation import calibration
from qa_accel.evaluation.calibration import GoldAnswers
from qa_accel.evaluation.confidence_figures import figures
from qa_accel.evaluation.cuad_scores import ScoredText, cuad_scores
from qa_accel.evaluation.multi_span_scores import best_least_score, multi_span_scores
from qa_accel.evaluation.set_scores import scores_by_set
from qa_accel.evaluation.squad_scores import exact_and_f1_of, squad_scores
from qa_accel.inference.answer_lists import NULL_ODDS_WITHOUT_SPAN, Answers
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.postprocess import shared_contexts

GOLDS_AT_ONCE = 2000
"""Questions whose gold answers are read together."""
BEST_LEAST_SCORE = "best_multi_exact_f1_score"
"""Key of scores: the least score of an answer with which best_multi_exact_f1 is reached."""


def scores_of(
    answers: Answers,
    split: Split,
    threshold: float,
    *,
    version_2_with_negative: bool,
    min_answer_score: float | None = None,
) -> dict[str, Any]:
    """`scores_against` the gold answers of the split and, if it has named sets, the figures of each and their mean; with
    `min_answer_score` also `several_scores`."""
    sets = SetRows.of(split.questions)
    scores = scores_against(
        answers,
        gold_texts(split),
        threshold,
        version_2_with_negative=version_2_with_negative,
        language=split.answer_language,
        set_of=None if sets is None else sets.by_id(split.questions["id"][:]),
    )
    if min_answer_score is None:
        return scores
    negative = version_2_with_negative
    return scores | several_scores(answers, split, min_answer_score, version_2_with_negative=negative)


def several_scores(
    answers: Answers, split: Split, min_answer_score: float, *, version_2_with_negative: bool
) -> dict[str, Any]:
    """Figures of several answers per question, where every gold text is an answer of its own: multi_* of the answers with at least
    that score; best_multi_exact_f1 at the least score that suits this data best, and that score; aupr and
    precision_at_*_recall of all candidates, whatever their score."""
    references, language = gold_texts(split), split.answer_language
    texts = Through(lambda entries: [entry["text"] for entry in entries], answers.several)
    scored = Through(
        lambda entries: [ScoredText(entry["text"], entry["score"]) for entry in entries], answers.candidates
    )
    best = best_least_score(
        answers.candidates, references, version_2_with_negative=version_2_with_negative, language=language
    )
    found = multi_span_scores(texts, references, language) | cuad_scores(scored, references)
    return found | {"min_answer_score": min_answer_score, "best_multi_exact_f1": best.f1, BEST_LEAST_SCORE: best.least}


def scores_against(
    answers: Answers,
    references: Mapping[str, Sequence[str]],
    threshold: float,
    *,
    version_2_with_negative: bool,
    language: AnswerLanguage = ENGLISH,
    set_of: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Official figures at `threshold`, and best_* at the thresholds that suit this data best, in units of null odds.

    `set_of`: id -> name of its set; with it come the scores of each set, see `scores_by_set`.

    With a threshold other than 0, `exact_threshold_0` and `f1_threshold_0` are the scores of the untuned model. An infinite
    threshold is given back as text: JSON has no infinity. `answer_language` is there unless it is English.
    """
    if not version_2_with_negative:
        threshold = NULL_ODDS_WITHOUT_SPAN * 10  # v1.1: the best span, whatever the null score

    def scores_at(value: float) -> dict[str, Any]:
        return squad_scores(answers.best_texts, references, answers.null_odds, value, language)

    scores = scores_at(threshold)
    if not version_2_with_negative:
        scores = {key: value for key, value in scores.items() if not key.startswith("best_")}
    if set_of is not None:
        null_odds = answers.null_odds if version_2_with_negative else None  # without them there is no best threshold
        scores |= scores_by_set(answers.best_texts, references, null_odds, threshold, set_of, language)
    if not version_2_with_negative:
        return scores | as_entry(language)
    if threshold != 0:
        at_zero = scores_at(0.0)
        scores |= {"exact_threshold_0": at_zero["exact"], "f1_threshold_0": at_zero["f1"]}
    stated = {"null_score_diff_threshold": threshold if math.isfinite(threshold) else str(threshold)}
    return scores | stated | as_entry(language)


def gold_texts(split: Split) -> Mapping[str, list[str]]:
    """By id; [] for a question without answer. Read when they are wanted, some questions at a time."""
    column = split.questions["answers"]

    def texts(first: int, last: int) -> list[list[str]]:
        return [answer["text"] for answer in column[first:last]]

    return MadeInChunks(split.questions["id"][:], np.arange(0, len(split.questions), GOLDS_AT_ONCE), texts)


def gold_answers(split: Split) -> GoldAnswers:
    contexts = dict(zip(split.questions["id"][:], shared_contexts(split.questions), strict=True))
    return GoldAnswers(gold_texts(split), contexts, split.answer_language)


def tuned_policy(
    answers: Answers, scores: dict[str, Any], split: Split, *, version_2_with_negative: bool
) -> tuple[AnswerPolicy, dict[str, Any]]:
    """`policy_of` the gold answers of the split."""
    return policy_of(answers, scores, gold_answers(split), version_2_with_negative=version_2_with_negative)


def policy_of(
    answers: Answers, scores: dict[str, Any], golds: GoldAnswers, *, version_2_with_negative: bool
) -> tuple[AnswerPolicy, dict[str, Any]]:
    """The threshold of best_f1, the least score of several answers if `scores` has one, with a calibration of one half of the
    questions, and the figures of the other half at it.

    In place of figures `not_calibrated`, the reason, where the questions are too few or of one kind.
    """
    policy = AnswerPolicy(tuned_threshold(answers, scores), min_answer_score=scores.get(BEST_LEAST_SCORE))
    first, second = golds.halves()
    threshold = policy.null_score_diff_threshold or 0.0
    try:
        fitted, found = calibration.calibrate(
            answers, first, second, threshold, version_2_with_negative=version_2_with_negative
        )
    except calibration.NotCalibrated as error:
        return policy, {"not_calibrated": str(error)}
    return policy.with_calibration(fitted), found


def confidence_scores(
    answers: Answers, split: Split, min_confidence: float | None, *, version_2_with_negative: bool
) -> dict[str, Any]:
    """Figures of a calibrated model's confidences; with `min_confidence` also how many questions are answered with at least
    that, and exact match and F1 of these in percent, as the predictions before any was withheld."""
    golds, language = gold_texts(split), split.answer_language
    exact_and_f1_Q2 = exact_and_f1_of(answers.predictions, golds, language)
    confidence_Q = np.fromiter((answers.confidences[key] for key in golds), np.float64, count=len(golds))
    found = figures(confidence_Q, exact_and_f1_Q2[:, 0])
    if version_2_with_negative:
        found |= calibration.answerability(answers, golds)
    if min_confidence is None:
        return found
    answered_Q = confidence_Q >= min_confidence
    found |= {"min_confidence": min_confidence, "answered": int(answered_Q.sum())}
    if answered_Q.any():
        exact, f1 = (100.0 * exact_and_f1_Q2[answered_Q].mean(axis=0)).tolist()
        found |= {"answered_exact": exact, "answered_f1": f1}
    return found


def tuned_threshold(answers: Answers, scores: dict[str, Any]) -> float | None:
    """The threshold of best_f1; None where there is none, or where answering nothing at all is best.

    In that last case the official search reports 0.0, which is no question's null odds and would not empty every answer.
    """
    threshold = scores.get("best_f1_thresh")
    return threshold if threshold in answers.null_odds.values() else None


def broadcast_scores(scores: dict[str, Any] | None) -> dict[str, Any]:
    """Rank 0's scores on every rank, so that all ranks agree on the best model and on early stopping. All must call."""
    from accelerate.utils import broadcast_object_list  # imports torch, which scores do without

    box = [scores]
    broadcast_object_list(box)
    assert box[0] is not None, "rank 0 has the scores"
    return box[0]
