"""A judged run -> the questions that its report holds to browse: errors of every kind, the most confident first, then right ones.

A report stays small whatever the data: at most MOST_QUESTIONS questions, of each at most passages.MOST_CHARACTERS of its context
around the marked spans, in all at most MOST_BYTES as the page has them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from qa_accel.evaluation.error_kinds import KINDS
from qa_accel.evaluation.question_features import FAMILIES
from qa_accel.reporting.blocks import Explorer
from qa_accel.reporting.judged_run import JudgedRun
from qa_accel.reporting.page_data import script_bytes
from qa_accel.reporting.passages import MOST_SPANS, Passage

MOST_QUESTIONS = 500
MOST_TEXT = 400
"""Characters of a question, an answer or an id."""
MOST_BYTES = 850_000
NBEST = 5
MOST_ERRORS = 400
"""Of the questions, if there are right ones for the rest."""
GOLDEN_SECTION = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Choice:
    """Rows of the data, those to embed first; what they are, for the sentence that says how many of them are there."""

    telling: Sequence[int]
    """Errors; of a comparison, the questions that both sides score differently."""
    others: Sequence[int]
    names: tuple[str, str]
    order: str
    """In which `telling` is, in words; "" for no order of note."""

    @property
    def rows(self) -> list[int]:
        first, last = min(MOST_ERRORS, len(self.telling)), MOST_QUESTIONS - min(MOST_ERRORS, len(self.telling))
        return [*self.telling[:first], *self.others[:last], *self.telling[first:], *self.others[last:]][:MOST_QUESTIONS]

    def in_words(self, embedded: Sequence[int]) -> str:
        """`embedded`: those of `rows` that found room."""
        total = len(self.telling) + len(self.others)
        if len(embedded) == total:
            return f"All {total:,} questions." if total > 1 else "The only question of the data."
        counts = [len(set(embedded).intersection(rows)) for rows in (self.telling, self.others)]
        parts = [
            f"{'all' if count == len(rows) else f'{count:,} of'} {len(rows):,} {name}"
            + (how if 0 < count < len(rows) else "")
            for count, rows, name, how in zip(
                counts, (self.telling, self.others), self.names, (self.order, " from all over the data")
            )
            if rows
        ]
        return f"{len(embedded):,} of {total:,} questions: {' and '.join(parts)}."


def explorer(run: JudgedRun, other: JudgedRun | None = None, names: tuple[str, str] | None = None) -> Explorer:
    """With `other`, the same questions answered by another run, and the `names` of both: questions that only one of both has
    right come first."""
    choice = errors_first(run) if other is None else flips_first(run, other)
    contexts: dict[str, int] = {}
    embedded, rows, size = [], [], 0
    for row in choice.rows:
        question, context = _embedded(run, other, row)
        size += script_bytes(question) + (0 if context in contexts else script_bytes(context))
        if size > MOST_BYTES:
            break
        question["context"] = contexts.setdefault(context, len(contexts))
        embedded.append(question)
        rows.append(row)
    values = _values(run)
    return Explorer(
        total=len(run.data.ids),
        chosen=choice.in_words(rows),
        threshold=run.threshold,
        kinds=[(kind, name, run.analysis.kinds[kind]) for kind, name in KINDS.items()],
        families=[(family, name, values[family]) for family, name in FAMILIES.items() if family in values],
        contexts=list(contexts),
        questions=embedded,
        names=names,
    )


def errors_first(run: JudgedRun) -> Choice:
    """In turn the most confident error of each kind; then right answers."""
    questions = run.analysis.questions
    row_of = {question.id: row for row, question in enumerate(questions)}
    of_kind: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for question in run.analysis.confident_and_wrong():
        of_kind[question.kind].append(row_of[question.id])
    right = [row for row, question in enumerate(questions) if question.kind == "right"]
    order = " of every kind" + ("" if run.confidence_Q is None else " (the most confident first)")
    return Choice(in_turn(*of_kind.values()), scattered(right), ("wrong answers", "right ones"), order)


def flips_first(run: JudgedRun, other: JudgedRun) -> Choice:
    """Questions of another score, better and worse ones in turn, the largest difference first; then the others."""
    difference_Q = np.abs(run.f1_Q - other.f1_Q) + np.abs(run.exact_Q - other.exact_Q)
    order = np.argsort(-difference_Q, kind="stable")
    flipped = order[difference_Q[order] > 0].tolist()
    gain_Q = run.exact_Q - other.exact_Q
    better, worse = [row for row in flipped if gain_Q[row] >= 0], [row for row in flipped if gain_Q[row] < 0]
    names = ("questions that the two runs score differently", "others")
    equal = np.flatnonzero(difference_Q == 0).tolist()
    return Choice(in_turn(better, worse), scattered(equal), names, " (the largest differences first)")


def in_turn(*groups: Sequence[int]) -> list[int]:
    return [row for turn in zip_longest(*groups) for row in turn if row is not None]


def scattered(rows: Sequence[int]) -> list[int]:
    """In an order of which every beginning is spread over all of them: multiples of the golden section fill a circle evenly."""
    return [rows[place] for place in sorted(range(len(rows)), key=lambda place: place * GOLDEN_SECTION % 1)]


def _values(run: JudgedRun) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for each in sorted(run.analysis.slices, key=lambda each: -each.questions):
        found.setdefault(each.family, {})[each.value] = None
    return {family: list(values) for family, values in found.items()}


def _embedded(run: JudgedRun, other: JudgedRun | None, row: int) -> tuple[dict[str, Any], str]:
    """The question but for its place among the contexts, and its context."""
    data, analysed = run.data, run.analysis.questions[row]
    context = data.contexts[row]
    golds = [
        (text, start, start + len(text)) if start >= 0 and context.startswith(text, start) else (text, None, None)
        for start, text in dict.fromkeys(zip(data.gold_starts[row], data.gold_texts[row]))
    ]
    passage = Passage.around(context, _marked(run, other, row, golds))
    question = {
        "id": shortened(data.ids[row]),
        "row": row,
        "question": shortened(data.questions[row]),
        "title": shortened(data.titles[row] or ""),
        "left_out": passage.left_out,
        "gold": [[*passage.span(start, end), shortened(text)] for text, start, end in golds],
        "predicted": _answered(run, row, passage),
        "kind": analysed.kind,
        "slices": analysed.features,
        "exact": float(run.exact_Q[row]),
        "f1": round(float(run.f1_Q[row]), 4),
        "null_odds": None if run.threshold is None else _rounded(run.outcomes.null_odds_Q, row),
        "confidence": _rounded(run.confidence_Q, row),
        "nbest": [_entry(entry) for entry in (run.files.nbest or {}).get(data.ids[row], [])[:NBEST]],
        "windows": _windows(run, row, passage),
        "other": None,
        "flip": None,
    }
    if other is not None:
        gain = run.exact_Q[row] - other.exact_Q[row]
        question["flip"] = None if gain == 0 else "better" if gain > 0 else "worse"
        question["other"] = _answered(other, row, passage) | {
            "kind": other.analysis.questions[row].kind,
            "exact": float(other.exact_Q[row]),
            "f1": round(float(other.f1_Q[row]), 4),
        }
    return question, passage.text


def _marked(
    run: JudgedRun, other: JudgedRun | None, row: int, golds: Sequence[tuple[str, int | None, int | None]]
) -> list[tuple[int, int]]:
    """The spans that a long context must show: the answers, and as many gold answers as fit."""
    answers = [judged.predicted[row] for judged in (run, other) if judged is not None]
    spans = [(place.start, place.end) for place in answers] + [(start, end) for _, start, end in golds]
    known = dict.fromkeys((start, end) for start, end in spans if start is not None and end is not None)
    return list(known)[:MOST_SPANS]


def _answered(judged: JudgedRun, row: int, passage: Passage) -> dict[str, Any]:
    place = judged.predicted[row]
    start, end = passage.span(place.start, place.end)
    return {"text": shortened(place.text), "start": start, "end": end}


def _windows(run: JudgedRun, row: int, passage: Passage) -> list[list[int]]:
    borders = [] if run.data.reach is None else run.data.reach.borders(row)
    moved = [[passage.place(start), passage.place(end)] for start, end in borders]
    return [[start, end] for start, end in moved if start < end]


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    confidence = entry.get("confidence")
    return {
        "text": shortened(entry["text"]),
        "probability": round(entry["probability"], 4),
        "confidence": round(confidence, 4) if isinstance(confidence, int | float) else None,
    }


def _rounded(values_Q: np.ndarray | None, row: int) -> float | None:
    return None if values_Q is None else round(float(values_Q[row]), 4)


def shortened(text: str, most: int = MOST_TEXT) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
