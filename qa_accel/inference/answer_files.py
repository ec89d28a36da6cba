"""Answers -> files: predictions.json, nbest_predictions.json, null_odds.json, of a calibrated model confidences.json and, where
several answers per question are asked for, answers.json."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qa_accel import files
from qa_accel.inference.postprocess import Answers
from qa_accel.run_layout import CONFIDENCES, NBEST, NULL_ODDS, PREDICTIONS, SEVERAL

ANSWER_FILES = (PREDICTIONS, NBEST, NULL_ODDS)


def write_answers(answers: Answers, folder: Path | str) -> None:
    """The files, in full or not at all.

    All are on the disk before the first takes its name: a disk that fills up leaves what was there before. Confidences and
    several answers of a former prediction are removed if these have none.
    """
    folder = Path(folder)
    contents: dict[str, Iterable[str]] = {
        PREDICTIONS: _one_by_question(answers.predictions),
        NBEST: _by_question(answers.nbest),
        NULL_ODDS: _one_by_question(answers.null_odds),
    }
    assert tuple(contents) == ANSWER_FILES, "whoever clears these files goes by their names"
    if answers.confidences:
        contents[CONFIDENCES] = _one_by_question(answers.confidences)
    if answers.several:
        contents[SEVERAL] = _by_question(answers.several)
    with files.replacing_all([folder / name for name in contents]) as partials:
        for partial, pieces in zip(partials, contents.values(), strict=True):
            with open(partial, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(pieces)
                file.write("\n")
    for name in {CONFIDENCES, SEVERAL} - contents.keys():
        (folder / name).unlink(missing_ok=True)


def _one_by_question(values_by_id: Mapping[str, str] | Mapping[str, float]) -> Iterator[str]:
    """What `json.dumps(values_by_id, indent=2)` gives, question by question: the whole text is never in memory."""
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    opening = "{"
    for key, value in values_by_id.items():
        yield f"{opening}\n  {encode(key)}: {encode(value)}"
        opening = ","
    yield "\n}" if values_by_id else "{}"


def _by_question(entries_by_id: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """What `json.dumps(entries_by_id, indent=2)` gives, question by question and twice as fast.

    The standard library indents in Python and encodes in C only what is not indented. So the line breaks are in the separator;
    those between entries, which are flat, are found by it, since no text has a line break of its own in JSON.
    """
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",\n      ", ": ")).encode
    opening = "{"
    for key, entries in entries_by_id.items():
        listed = encode(entries)[2:-2].replace("},\n      {", "\n    },\n    {\n      ")
        yield f"{opening}\n  {encode(key)}: " + (f"[\n    {{\n      {listed}\n    }}\n  ]" if entries else "[]")
        opening = ","
    yield "\n}" if entries_by_id else "{}"
