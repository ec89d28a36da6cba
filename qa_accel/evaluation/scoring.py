"""Answers of a split -> official scores, and the no-answer threshold that suits the data best."""

import math
from typing import Any

from accelerate.utils import broadcast_object_list

from qa_accel.data.splits import Split
from qa_accel.evaluation.squad_scores import squad_scores
from qa_accel.inference.postprocess import NULL_ODDS_WITHOUT_SPAN, Answers


def scores_of(answers: Answers, split: Split, threshold: float, *, version_2_with_negative: bool) -> dict[str, Any]:
    """Official figures at `threshold`, and best_* at the thresholds that suit this data best, in units of null odds.

    With a threshold other than 0, `exact_threshold_0` and `f1_threshold_0` are the scores of the untuned model. An infinite
    threshold is given back as text: JSON has no infinity.
    """
    golds = (answer["text"] for answer in split.questions["answers"][:])
    references = dict(zip(split.questions["id"][:], golds, strict=True))
    if not version_2_with_negative:
        threshold = NULL_ODDS_WITHOUT_SPAN * 10  # v1.1: the best span, whatever the null score

    def scores_at(value: float) -> dict[str, Any]:
        return squad_scores(answers.best_texts, references, answers.null_odds, value)

    scores = scores_at(threshold)
    if not version_2_with_negative:
        return {key: value for key, value in scores.items() if not key.startswith("best_")}
    if threshold != 0:
        at_zero = scores_at(0.0)
        scores |= {"exact_threshold_0": at_zero["exact"], "f1_threshold_0": at_zero["f1"]}
    return scores | {"null_score_diff_threshold": threshold if math.isfinite(threshold) else str(threshold)}


def tuned_threshold(answers: Answers, scores: dict[str, Any]) -> float | None:
    """The threshold of best_f1; None where there is none, or where answering nothing at all is best.

    In that last case the official search reports 0.0, which is no question's null odds and would not empty every answer.
    """
    threshold = scores.get("best_f1_thresh")
    return threshold if threshold in answers.null_odds.values() else None


def broadcast_scores(scores: dict[str, Any] | None) -> dict[str, Any]:
    """Rank 0's scores on every rank, so that all ranks agree on the best model and on early stopping. All must call."""
    box = [scores]
    broadcast_object_list(box)
    assert box[0] is not None, "rank 0 has the scores"
    return box[0]
