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
        PREDICTIONS: [json.dumps(answers.predictions, indent=2, ensure_ascii=False)],
        NBEST: _by_question(answers.nbest),
        NULL_ODDS: [json.dumps(answers.null_odds, indent=2, ensure_ascii=False, allow_nan=False)],
    }
    assert tuple(contents) == ANSWER_FILES, "whoever clears these files goes by their names"
    if answers.confidences:
        contents[CONFIDENCES] = [json.dumps(answers.confidences, indent=2, allow_nan=False, ensure_ascii=False)]
    if answers.several:
        contents[SEVERAL] = _by_question(answers.several)
    with files.replacing_all([folder / name for name in contents]) as partials:
        for partial, pieces in zip(partials, contents.values(), strict=True):
            with open(partial, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(pieces)
                file.write("\n")
    for name in {CONFIDENCES, SEVERAL} - contents.keys():
        (folder / name).unlink(missing_ok=True)


def _by_question(entries_by_id: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """What `json.dumps(entries_by_id, indent=2)` gives, question by question and twice as fast.

    The standard library indents in Python and encodes in C only what is not indented. So each entry is encoded alone,
    with its line breaks in the separator.
    """
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",\n      ", ": ")).encode
    opening = "{"
    for key, entries in entries_by_id.items():
        listed = ",\n    ".join(f"{{\n      {encode(entry)[1:-1]}\n    }}" for entry in entries)
        yield f"{opening}\n  {encode(key)}: " + (f"[\n    {listed}\n  ]" if entries else "[]")
        opening = ","
    yield "\n}" if entries_by_id else "{}"
