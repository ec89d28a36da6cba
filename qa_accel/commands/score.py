"""Score a predictions file by the official SQuAD v2.0 definitions, or by the rules of another language; with --answers all by the
definitions of MultiSpanQA and CUAD."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qa_accel.answer_language import ENGLISH, AnswerLanguage, as_entry, language_of
from qa_accel.commands.settings.score import ScoreConfig
from qa_accel.evaluation.set_scores import scores_by_set
from qa_accel.evaluation.several_answers_file import scores_of_file
from qa_accel.evaluation.squad_scores import squad_scores
from qa_accel.input_files import read_json
from qa_accel.language_by_set import by_id, language_by_set
from qa_accel.messages import quoted

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
        golds, _, language = _gold_answers(settings)
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
    references, set_of, language = _gold_answers(settings)
    # The official scorer ignores predictions without a question, so that one file can be scored on a part of its data.
    scored = {key: text for key, text in predictions.items() if key in references}
    limit = math.inf if threshold is None else threshold
    result = squad_scores(scored, references, no_answer_scores, limit, language)
    if set_of is not None:
        result |= scores_by_set(scored, references, no_answer_scores, limit, set_of, language)
    _say_what_does_not_count(predictions, references)
    return result | as_entry(language)


def _say_what_does_not_count(predictions: Mapping[str, Any], references: Mapping[str, Any]) -> None:
    others = [key for key in predictions if key not in references]
    if others:
        print(
            f"score: {len(others)} predictions do not count, the first for {quoted(others[0])}: "
            "--validation_file does not have these questions",
            file=sys.stderr,
        )


def _gold_answers(settings: ScoreConfig) -> tuple[dict[str, list[str]], dict[str, str] | None, AnswerLanguage]:
    """Gold texts, the set of each id if the files have names, and the language; a warning where it does not suit the texts."""
    references, set_of = read_references(settings)
    language: AnswerLanguage = settings.answer_language[0]
    if set_of is not None:
        language = by_id(language_by_set(settings.answer_language, list(dict.fromkeys(set_of.values()))), set_of)
    elif "=" in language:
        raise ValueError(f"--answer_language {language} is for a named set; name it (NAME=FILE), or give one language")
    if warning := _warning(references, language):
        print(f"score: --validation_file: {warning}", file=sys.stderr)
    return references, set_of, language


def _warning(references: dict[str, list[str]], language: AnswerLanguage) -> str | None:
    from qa_accel.data import answer_scripts  # after read_references: it takes as long to import

    english = [golds for key, golds in references.items() if language_of(language, key) == ENGLISH]
    return answer_scripts.warning_of((text for golds in english for text in golds), ENGLISH)


def read_references(settings: ScoreConfig) -> tuple[dict[str, list[str]], dict[str, str] | None]:
    """Gold texts by id, in every form that training reads, and the set of each id if the files have names. No cache is used:
    scoring leaves nothing behind."""
    # these take a second, which a mistyped path need not wait for
    from qa_accel.data import named_sets, sources, squad_format

    columns = squad_format.Columns(id=settings.id_column, answers=settings.answers_column)
    sets = named_sets.named_sources(settings.validation_file, "validation_file")
    if sets is not None:
        references = sets.gold_texts_by_id(columns)
        return references, {key: key.partition("/")[0] for key in references}
    source = sources.file_source(settings.validation_file, "validation_file")
    return squad_format.gold_texts_by_id(source.rows(), columns), None


def read_object(path: str) -> dict[str, Any]:
    content = read_json(Path(path))
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected one JSON object with an entry per question id, found a {type(content).__name__}"
        )
    return content
