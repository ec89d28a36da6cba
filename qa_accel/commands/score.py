"""Score a predictions file by the official SQuAD v2.0 definitions, or by the rules of another language; with --answers all by the
definitions of MultiSpanQA and CUAD.

python scripts/score.py --validation_file dev.json --predictions_file runs/answers/predictions.json
python scripts/score.py --validation_file dev.json --predictions_file runs/answers/answers.json --answers all

Prints the figures as one JSON object on stdout. No torch, no network; nothing is written.
With a no-answer score per question (a probability, or our null odds) it finds the best thresholds too; these need the
texts of best spans: where a prediction is "" already, no threshold can bring its text back.
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qa_accel.answer_language import ENGLISH, as_entry, check_language
from qa_accel.evaluation.several_answers_file import scores_of_file
from qa_accel.evaluation.squad_scores import squad_scores
from qa_accel.input_files import read_json
from qa_accel.messages import quoted
from qa_accel.ranges import check_ranges


@dataclass(frozen=True)
class ScoreConfig:
    validation_file: tuple[str, ...]
    """Questions with gold answers: JSON (nested SQuAD or rows), JSONL, CSV, TSV or Parquet, .gz and globs allowed. Ids and
    answers are enough."""
    predictions_file: str
    """JSON object: id -> text, "" for no answer. With --answers all: id -> list of texts, or of {"text", "score"} as in our
    answers.json; nbest_predictions.json gives CUAD's figures alone."""
    answers: Literal["any", "all"] = "any"
    """any: the best of the gold answers counts, as in SQuAD. all: each gold answer is an answer of its own, and predictions are lists:
    exact and partial match as in MultiSpanQA and, where predictions have scores, precision at recalls and AUPR as in CUAD."""
    no_answer_probability_file: str | None = None
    """JSON object: id -> probability that the question has no answer, 0 to 1."""
    null_odds_file: str | None = None
    """JSON object: id -> null score minus the best span's score, as in our null_odds.json."""
    no_answer_threshold: float | None = None
    """Questions whose no-answer score is above this count as answered with "". Not given: every text counts as it is, which
    is what the official scorer's default of 1 does with probabilities."""
    answer_language: str = ENGLISH
    """Language of the answers, an ISO 639-1 code, whose rules compare predicted with gold answers: `en` gives the official SQuAD
    scores, `zh` and others have words, articles and punctuation of their own, `char` compares characters."""
    id_column: str = "id"
    """Column of the question's id in validation_file."""
    answers_column: str = "answers"
    """Column of the gold answers in validation_file."""

    def __post_init__(self):
        check_language(self.answer_language)
        check_ranges(self, no_answer_threshold="[-inf, inf]")


Config = ScoreConfig


def run(settings: ScoreConfig) -> None:
    """Print the scores. Raises ValueError for files that cannot be scored."""
    print(json.dumps(scores(settings), indent=2))


def scores(settings: ScoreConfig) -> dict[str, Any]:
    probability_file, threshold = settings.no_answer_probability_file, settings.no_answer_threshold
    score_file = probability_file or settings.null_odds_file
    if probability_file and settings.null_odds_file:
        raise ValueError("give --no_answer_probability_file or --null_odds_file, not both")
    if threshold is not None and score_file is None:
        raise ValueError(
            "--no_answer_threshold has nothing to compare with: "
            "give --no_answer_probability_file or --null_odds_file, or leave it out"
        )
    predictions = read_object(settings.predictions_file)
    if settings.answers == "all":
        if score_file is not None:
            raise ValueError(
                "--answers all has no use for no-answer scores: an empty list is no answer; leave out "
                + ("--no_answer_probability_file" if probability_file else "--null_odds_file")
            )
        golds, language = read_references(settings), settings.answer_language
        if warning := _warning(golds, language):
            print(f"score: --validation_file: {warning}", file=sys.stderr)
        found = scores_of_file(predictions, golds, settings.predictions_file, language)
        _say_what_does_not_count(predictions, golds)
        return found | as_entry(language)
    no_answer_scores = read_object(score_file) if score_file else None
    if probability_file and no_answer_scores:
        for key, value in no_answer_scores.items():
            if isinstance(value, int | float) and not 0 <= value <= 1:
                raise ValueError(
                    f"{probability_file}: {quoted(key)}: {str(value)[:40]} is not a probability; null odds go to --null_odds_file"
                )
    references = read_references(settings)

    if warning := _warning(references, settings.answer_language):
        print(f"score: --validation_file: {warning}", file=sys.stderr)
    # The official scorer ignores predictions without a question, so that one file can be scored on a part of its data.
    scored = {key: text for key, text in predictions.items() if key in references}
    least = math.inf if threshold is None else threshold
    result = squad_scores(scored, references, no_answer_scores, least, settings.answer_language)
    _say_what_does_not_count(predictions, references)
    return result | as_entry(settings.answer_language)


def _say_what_does_not_count(predictions: Mapping[str, Any], references: Mapping[str, Any]) -> None:
    others = [key for key in predictions if key not in references]
    if others:
        print(
            f"score: {len(others)} predictions do not count, the first for {quoted(others[0])}: "
            "--validation_file does not have these questions",
            file=sys.stderr,
        )


def _warning(references: dict[str, list[str]], language: str) -> str | None:
    from qa_accel.data import answer_scripts  # after read_references: it takes as long to import

    return answer_scripts.warning_of((text for golds in references.values() for text in golds), language)


def read_references(settings: ScoreConfig) -> dict[str, list[str]]:
    """Gold texts by id, in every form that training reads. No cache is used: scoring leaves nothing behind."""
    from qa_accel.data import sources, squad_format  # these take a second, which a mistyped path need not wait for

    columns = squad_format.Columns(id=settings.id_column, answers=settings.answers_column)
    source = sources.file_source(settings.validation_file, "validation_file")
    return squad_format.gold_texts_by_id(source.rows(), columns)


def read_object(path: str) -> dict[str, Any]:
    content = read_json(Path(path))
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected one JSON object with an entry per question id, found a {type(content).__name__}"
        )
    return content
