"""python scripts/score.py --validation_file dev.json --predictions_file runs/answers/predictions.json

Prints the official SQuAD v2.0 figures as one JSON object on stdout. No torch, no network, nothing is written.
With a no-answer score per question (a probability, or our null odds) it finds the best thresholds too; these need the
texts of best spans: where a prediction is "" already, no threshold can bring its text back.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from qa_accel.evaluation.squad_scores import squad_scores


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    formats = "JSON (nested SQuAD or rows), JSONL, CSV or Parquet, .gz allowed, globs too"
    add("--validation_file", nargs="+", required=True, metavar="DEV", help=f"questions with gold answers: {formats}")
    add("--predictions_file", required=True, metavar="P", help='JSON object: id -> text, "" for no answer')
    either = parser.add_mutually_exclusive_group()
    odds = "JSON object: id -> null score minus the best span's score, as in our null_odds.json"
    either.add_argument("--no_answer_probability_file", metavar="N", help="JSON object: id -> probability, 0 to 1")
    either.add_argument("--null_odds_file", metavar="N", help=odds)
    threshold = (
        'questions whose no-answer score is above T count as answered with ""; left out, all texts count as they stand, '
        "which is what the official scorer's default of 1 does with probabilities"
    )
    add("--no_answer_threshold", type=float, metavar="T", help=threshold)
    for column in ("id", "question", "context", "answers"):
        add(f"--{column}_column", default=column, metavar="NAME", help=f"column of DEV (default {column})")
    return parser.parse_args()


def scores(arguments: argparse.Namespace) -> dict[str, float | int]:
    probability_file, null_odds_file = arguments.no_answer_probability_file, arguments.null_odds_file
    score_file, threshold = probability_file or null_odds_file, arguments.no_answer_threshold
    if threshold is not None and score_file is None:
        raise ValueError(
            "--no_answer_threshold has nothing to compare with: "
            "give --no_answer_probability_file or --null_odds_file, or leave it out"
        )
    predictions = read_object(arguments.predictions_file)
    no_answer_scores = read_object(score_file) if score_file else None
    if probability_file and no_answer_scores:
        for key, value in no_answer_scores.items():
            if isinstance(value, int | float) and not 0 <= value <= 1:
                raise ValueError(
                    f"{probability_file}: {key!r}: {value} is no probability; null odds go to --null_odds_file"
                )
    references = read_references(arguments)

    # The official scorer passes over what is not asked for, so that one file can be scored on a part of its data.
    asked = {key: text for key, text in predictions.items() if key in references}
    result = squad_scores(asked, references, no_answer_scores, math.inf if threshold is None else threshold)
    if len(asked) < len(predictions):
        first = next(key for key in predictions if key not in references)
        print(
            f"score.py: {len(predictions) - len(asked)} predictions do not count, the first for {first!r}: "
            "--validation_file does not ask these questions",
            file=sys.stderr,
        )
    return result


def read_references(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Gold texts by id, read as the data module reads them, but without its cache: scoring leaves nothing behind."""
    from qa_accel.data import sources
    from qa_accel.data import squad_format as canonical

    columns = canonical.Columns(*(getattr(arguments, f"{name}_column") for name in canonical.Columns._fields))
    source = sources.file_source(arguments.validation_file, "validation_file")
    references = {}
    for batch in canonical.question_batches(source.rows(), columns):
        for key, answers in zip(batch["id"].to_pylist(), batch["answers"].to_pylist()):
            if answers is None:
                raise ValueError(
                    f"{source.name}: {key!r} has no {columns.answers!r}, so there is nothing to score against; "
                    "where the context holds no answer, empty lists say so"
                )
            references[key] = answers["text"]
    return references


def read_object(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected one JSON object with an entry per question id, found a {type(content).__name__}"
        )
    return content


if __name__ == "__main__":
    try:
        result = scores(read_arguments())
    except ValueError as error:
        print(f"score.py: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(result, indent=2))
