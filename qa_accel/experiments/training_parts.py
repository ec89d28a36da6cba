"""Training questions -> parts of them that hold whole contexts, each part all of the smaller ones, as JSONL files.

The contexts are put into an order that only the seed and their number decide, and a part takes the first so many. The questions
of a part come in the order of the data, so that the largest part is the data itself.

Axes: Q questions, P paragraphs (distinct contexts).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from qa_accel import files
from qa_accel.data.settings import Columns

ROWS = 1000
"""Questions that are held in memory at a time."""


@dataclass(frozen=True)
class Part:
    fraction: int
    """16: a sixteenth of the contexts."""
    contexts: int
    rows_Q: np.ndarray
    """Rows of the questions, ascending."""


def paragraphs_of(questions: datasets.Dataset) -> np.ndarray:
    """(Q,) int: equal for questions of one context, from 0 in the order in which contexts come."""
    places: dict[str, int] = {}
    found: list[int] = []
    for rows in questions.select_columns(["context"]).iter(ROWS):
        found += [places.setdefault(context, len(places)) for context in _columns(rows)["context"]]
    return np.array(found, np.int64)


def nested_parts(paragraph_Q: np.ndarray, fractions: Sequence[int], seed: int) -> list[Part]:
    """The smallest first. A part has P / fraction contexts, rounded to the nearest number.

    Raises ValueError where there are too few contexts for each part to be larger than the one before it.
    """
    paragraphs = int(paragraph_Q.max(initial=-1)) + 1
    place_P = np.argsort(np.random.default_rng(seed).permutation(paragraphs))  # of each context in the drawn order
    parts: list[Part] = []
    for fraction in sorted(set(fractions), reverse=True):
        contexts = round(paragraphs / fraction)
        if contexts < 1 or (parts and contexts <= parts[-1].contexts):
            raise ValueError(
                f"the training data has {paragraphs:,} contexts, which is too few for a part of 1/{fraction}; leave it out of "
                "--fractions"
            )
        parts.append(Part(fraction, contexts, np.flatnonzero(place_P[paragraph_Q] < contexts)))
    return parts


def write_questions(path: Path, questions: datasets.Dataset, columns: Columns) -> None:
    """A line per question, under the names of columns that the settings give."""
    with files.replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for row in _rows(questions):
            answers = {name: row["answers"][name] for name in ("text", "answer_start")}
            named = {columns.id: row["id"], columns.question: row["question"], columns.context: row["context"]}
            title = {"title": row["title"]} if row.get("title") is not None and "title" not in columns else {}
            file.write(json.dumps(named | {columns.answers: answers} | title, ensure_ascii=False) + "\n")


def _rows(questions: datasets.Dataset) -> Iterator[dict[str, Any]]:
    for batch in questions.iter(ROWS):
        columns = _columns(batch)
        for values in zip(*columns.values()):
            yield dict(zip(columns, values))


def _columns(batch: Any) -> Mapping[str, Sequence[Any]]:
    return batch
