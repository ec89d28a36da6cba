"""Score a predictions file by the official SQuAD v2.0 definitions, or by the rules of another language; with --answers all by the
definitions of MultiSpanQA and CUAD.

python scripts/score.py --validation_file dev.json --predictions_file runs/answers/predictions.json
python scripts/score.py --validation_file dev.json --predictions_file runs/answers/answers.json --answers all

Prints the figures as one JSON object on stdout. No torch, no network; nothing is written.
With a no-answer score per question (a probability, or our null odds) it finds the best thresholds too; these need the
texts of best spans: where a prediction is "" already, no threshold can bring its text back.
"""

from dataclasses import dataclass
from typing import Literal

from qa_accel.answer_language import ENGLISH
from qa_accel.language_by_set import check_languages
from qa_accel.ranges import check_ranges


@dataclass(frozen=True)
class ScoreConfig:
    validation_file: tuple[str, ...]
    """Questions with gold answers: JSON (nested SQuAD or rows), JSONL, CSV, TSV or Parquet, .gz and globs allowed. Ids and
    answers are enough. Sets with names (en=A.json de=B.json) have scores of their own; predictions are then for NAME/id."""
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
    answer_language: tuple[str, ...] = (ENGLISH,)
    """Language of the answers, an ISO 639-1 code, whose rules compare predicted with gold answers: `en` gives the official SQuAD
    scores, `zh` and others have words, articles and punctuation of their own, `char` compares characters."""
    id_column: str = "id"
    """Column of the question's id in validation_file."""
    answers_column: str = "answers"
    """Column of the gold answers in validation_file."""

    def __post_init__(self):
        check_languages(self.answer_language)
        check_ranges(self, no_answer_threshold="[-inf, inf]")


Config = ScoreConfig
