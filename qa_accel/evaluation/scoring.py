"""Model + one split -> answers on rank 0 and scores on every rank: the one decoder of training, prediction and API."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from qa_accel.batching.collate import Batch
from qa_accel.data import questions as data
from qa_accel.data.splits import Split
from qa_accel.evaluation.squad_metric import SquadMetric
from qa_accel.inference import postprocess as spans
from qa_accel.inference import predictor as predict


def answer_split(
    accelerator: Accelerator,
    model: torch.nn.Module,
    split: Split,
    collate: Callable[[np.ndarray], Batch],
    plan: np.ndarray,
    config: spans.SpanConfig,
    *,
    version_2_with_negative: bool,
    done: Callable[[int], None] = lambda batches: None,
) -> spans.Answers | None:
    """Answers to all questions of the split; None on all ranks but 0. All ranks must call."""
    candidates = predict.window_candidates(accelerator, model, collate, plan, config, done)
    if candidates is None:
        return None
    return spans.best_answers(
        split.questions, split.windows, candidates, config, version_2_with_negative=version_2_with_negative
    )


def scores_of(
    answers: spans.Answers, split: Split, threshold: float, *, version_2_with_negative: bool
) -> dict[str, Any]:
    """Official figures at `threshold`, and best_* at the thresholds that suit this data best, in units of null odds.

    With a threshold other than 0, `exact_threshold_0` and `f1_threshold_0` say what the untuned model scores.
    """
    references = [
        {"id": key, "answers": answer} for key, answer in zip(split.questions["id"][:], split.questions["answers"][:])
    ]
    if not version_2_with_negative:
        threshold = spans.NULL_ODDS_WITHOUT_SPAN * 10  # v1.1: the best span, whatever the null score

    def scores_at(value: float) -> dict[str, Any]:
        predictions = [
            {"id": key, "prediction_text": text, "no_answer_probability": answers.null_odds[key]}
            for key, text in answers.best_texts.items()
        ]
        scores = SquadMetric().compute(predictions=predictions, references=references, no_answer_threshold=value)
        assert scores is not None, "one process computes the metric"
        return scores

    scores = scores_at(threshold)
    if not version_2_with_negative:
        return {key: value for key, value in scores.items() if not key.startswith("best_")}
    if threshold != 0:
        at_zero = scores_at(0.0)
        scores |= {"exact_threshold_0": at_zero["exact"], "f1_threshold_0": at_zero["f1"]}
    return scores | {"null_score_diff_threshold": threshold}


def tuned_threshold(answers: spans.Answers, scores: dict[str, Any]) -> float | None:
    """The threshold of best_f1; None where there is none, or where answering nothing at all is best.

    In that last case the official search reports 0.0, which is no question's null odds and would not empty every answer.
    """
    threshold = scores.get("best_f1_thresh")
    return threshold if threshold in answers.null_odds.values() else None


def shared_by_all(scores: dict[str, Any] | None) -> dict[str, Any]:
    """Rank 0's scores on every rank: choosing the best model and stopping early must be everyone's decision."""
    box = [scores]
    broadcast_object_list(box)
    assert box[0] is not None, "rank 0 has the scores"
    return box[0]


def has_unanswerable(config: data.DataConfig, *splits: Split) -> bool:
    """version_2_with_negative as given, else whether any question of these splits has no answer."""
    if config.version_2_with_negative is not None:
        return config.version_2_with_negative
    return any(data.has_unanswerable(split.questions) for split in splits)


def with_threshold(config: spans.SpanConfig, stored: float | None) -> spans.SpanConfig:
    """The flag's no-answer threshold, else the one stored with the model, else 0."""
    given = config.null_score_diff_threshold
    return replace(config, null_score_diff_threshold=given if given is not None else (stored or 0.0))
