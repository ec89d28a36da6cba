"""Answers of a split -> the files of a prediction and, where the data has gold answers, its scores, on the console too."""

import logging
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from qa_accel import files
from qa_accel.data.named_sets import SetRows
from qa_accel.data.splits import Split
from qa_accel.evaluation import score_tables, scoring
from qa_accel.inference.answer_files import write_answers
from qa_accel.inference.confidence import withheld
from qa_accel.inference.postprocess import Answers
from qa_accel.inference.settings import SpanConfig
from qa_accel.run_layout import FINISHED

logger = logging.getLogger(__name__)


def warn_of_unused(spans: SpanConfig, min_confidence: float | None, *, several: bool) -> None:
    """Of settings that have no say in answers of this kind."""
    if spans.min_answer_score is not None and not several:
        logger.warning("--min_answer_score %s is ignored without --answers all", spans.min_answer_score)
    if min_confidence is not None and several:
        logger.warning(
            "--min_confidence %s empties answers of predictions.json alone; --min_answer_score decides what answers.json lists",
            min_confidence,
        )


def write_results(
    folder: Path,
    console: Console,
    answers: Answers,
    split: Split,
    threshold: float,
    min_confidence: float | None,
    *,
    version_2_with_negative: bool,
    min_answer_score: float | None = None,
) -> None:
    """predictions.json and what is beside it; all_results.json where the questions have answers.

    `min_answer_score`: of several answers, if they are asked for.
    """
    predictions = answers.predictions
    if min_confidence is not None:
        predictions = withheld(predictions, answers.confidences, min_confidence)
    write_answers(replace(answers, predictions=predictions), folder)
    scores = {}
    if "answers" in split.questions.column_names:
        scores = scoring.scores_of(
            answers,
            split,
            threshold,
            version_2_with_negative=version_2_with_negative,
            min_answer_score=min_answer_score,
        )
        if answers.confidences:
            scores |= scoring.confidence_scores(
                answers, split, min_confidence, version_2_with_negative=version_2_with_negative
            )
        files.write_json(folder / FINISHED, scores)
        console.print(score_tables.scores_table(scores))
        if (sets := SetRows.of(split.questions)) is not None:
            console.print(score_tables.sets_table(scores, sets.names))
    if min_confidence is not None:
        count = sum(confidence >= min_confidence for confidence in answers.confidences.values())
        console.print(
            score_tables.answered_line(
                {"min_confidence": min_confidence, "answered": count, **scores}, len(split.questions)
            )
        )
