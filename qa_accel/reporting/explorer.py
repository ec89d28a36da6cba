"""A judged run -> the questions that its report holds to browse: some of every kind, the most confident errors first.

A report stays small whatever the data: at most MOST_QUESTIONS questions, of each at most MOST_CHARACTERS of its context around
the marked spans, in all at most MOST_BYTES.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from qa_accel.evaluation.error_kinds import KINDS
from qa_accel.evaluation.question_features import FAMILIES
from qa_accel.reporting.blocks import Explorer
from qa_accel.reporting.judged_run import JudgedRun

MOST_QUESTIONS = 500
MOST_CHARACTERS = 3000
MOST_TEXT = 400
"""Characters of a question, an answer or an id."""
MOST_BYTES = 850_000
NBEST = 5
ERRORS = 0.8
"""Part of the questions that are errors, if there are so many."""


def explorer(run: JudgedRun, other: JudgedRun | None = None, names: tuple[str, str] | None = None) -> Explorer:
    """With `other`, the same questions answered by another run, and the `names` of both: questions that only one of both has
    right come first."""
    rows = chosen_rows(run) if other is None else chosen_flips(run, other)
    contexts: dict[str, int] = {}
    embedded, size = [], 0
    for row in rows:
        question, context = _embedded(run, other, row)
        size += len(json.dumps(question)) + (0 if context in contexts else len(json.dumps(context)))
        if size > MOST_BYTES:
            break
        question["context"] = contexts.setdefault(context, len(contexts))
        embedded.append(question)
    values = _values(run)
    return Explorer(
        total=len(run.data.ids),
        chosen=_how_chosen(len(embedded), len(run.data.ids), other),
        threshold=run.threshold,
        kinds=[(kind, name, run.analysis.kinds[kind]) for kind, name in KINDS.items()],
        families=[(family, name, values[family]) for family, name in FAMILIES.items() if family in values],
        contexts=list(contexts),
        questions=embedded,
        names=names,
    )


def _how_chosen(embedded: int, total: int, other: JudgedRun | None) -> str:
    if embedded == total:
        return f"All {total:,} questions."
    first = "the questions that one run alone has right" if other else "errors of every kind, the most confident first"
    return f"{embedded:,} of {total:,} questions: {first}, and some of the rest."


def chosen_rows(run: JudgedRun) -> list[int]:
    """In turn the most confident error of each kind; then right answers from all over the data."""
    questions = run.analysis.questions
    if len(questions) <= MOST_QUESTIONS:
        return list(range(len(questions)))
    row_of = {question.id: row for row, question in enumerate(questions)}
    of_kind: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for question in run.analysis.confident_and_wrong():
        of_kind[question.kind].append(row_of[question.id])
    in_turn = [row for turn in zip_longest(*of_kind.values()) for row in turn if row is not None]
    errors = in_turn[: int(ERRORS * MOST_QUESTIONS)]
    right = [row for row, question in enumerate(questions) if question.kind == "right"]
    return [*errors, *_spread(right, MOST_QUESTIONS - len(errors))]


def chosen_flips(run: JudgedRun, other: JudgedRun) -> list[int]:
    """Questions of another score, the largest difference first; then some of the others."""
    difference_Q = np.abs(run.f1_Q - other.f1_Q) + np.abs(run.exact_Q - other.exact_Q)
    order = np.argsort(-difference_Q, kind="stable")
    flipped = order[difference_Q[order] > 0].tolist()
    equal = np.flatnonzero(difference_Q == 0).tolist()
    flips = _in_balance(flipped, run.exact_Q - other.exact_Q)[:MOST_QUESTIONS]
    return [*flips, *_spread(equal, MOST_QUESTIONS - len(flips))]


def _in_balance(rows: Sequence[int], gain_Q: np.ndarray) -> list[int]:
    """Better and worse ones in turn, so that both are there when only some fit."""
    better, worse = [row for row in rows if gain_Q[row] >= 0], [row for row in rows if gain_Q[row] < 0]
    return [row for pair in zip_longest(better, worse) for row in pair if row is not None]


def _spread(rows: Sequence[int], count: int) -> list[int]:
    if len(rows) <= count:
        return list(rows)
    return [rows[place] for place in np.linspace(0, len(rows) - 1, count).round().astype(int)] if count > 0 else []


def _values(run: JudgedRun) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for each in sorted(run.analysis.slices, key=lambda each: -each.questions):
        found.setdefault(each.family, {})[each.value] = None
    return {family: list(values) for family, values in found.items()}


def _embedded(run: JudgedRun, other: JudgedRun | None, row: int) -> tuple[dict[str, Any], str]:
    data, analysed = run.data, run.analysis.questions[row]
    key, context = data.ids[row], data.contexts[row]
    places = [run.predicted[row], *([] if other is None else [other.predicted[row]])]
    golds = list(zip(data.gold_starts[row], data.gold_texts[row]))
    marked = [(place.start, place.end) for place in places if place.start is not None and place.end is not None]
    marked += [(start, start + len(text)) for start, text in golds]
    first, last = _part(len(context), marked)

    def moved(start: int | None, end: int | None) -> list[int | None]:
        inside = start is not None and end is not None and first <= start and end <= last
        return [start - first, end - first] if inside else [None, None]  # type: ignore[operator]

    def answered(judged: JudgedRun) -> dict[str, Any]:
        place = judged.predicted[row]
        start, end = moved(place.start, place.end)
        return {"text": _short(place.text), "start": start, "end": end}

    question = {
        "id": _short(key),
        "question": _short(data.questions[row]),
        "title": _short(data.titles[row] or ""),
        "cut": [first, len(context) - last],
        "gold": [
            [*(moved(start, start + len(text)) if context.startswith(text, start) else [None, None]), _short(text)]
            for start, text in dict.fromkeys(golds)
        ],
        "predicted": answered(run),
        "kind": analysed.kind,
        "slices": analysed.features,
        "exact": float(run.exact_Q[row]),
        "f1": round(float(run.f1_Q[row]), 4),
        "null_odds": _rounded(run.outcomes.null_odds_Q, row),
        "confidence": _rounded(run.confidence_Q, row),
        "nbest": [_entry(entry, moved) for entry in (run.files.nbest or {}).get(key, [])[:NBEST]],
        "windows": _windows(run, row, first, last),
        "other": None,
        "flip": None,
    }
    if other is not None:
        gain = run.exact_Q[row] - other.exact_Q[row]
        question["flip"] = None if gain == 0 else "better" if gain > 0 else "worse"
        question["other"] = answered(other) | {
            "kind": other.analysis.questions[row].kind,
            "exact": float(other.exact_Q[row]),
            "f1": round(float(other.f1_Q[row]), 4),
            "null_odds": _rounded(other.outcomes.null_odds_Q, row),
        }
    return question, context[first:last]


def _part(length: int, marked: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The characters of a context that are embedded: all, or those around the first marked span."""
    if length <= MOST_CHARACTERS:
        return 0, length
    start, end = min(marked, default=(0, 0))
    first = max(0, min((start + end) // 2 - MOST_CHARACTERS // 2, length - MOST_CHARACTERS))
    return first, first + MOST_CHARACTERS


def _windows(run: JudgedRun, row: int, first: int, last: int) -> list[list[int]]:
    borders = [] if run.data.reach is None else run.data.reach.borders(row)
    return [
        [max(start, first) - first, min(end, last) - first] for start, end in borders if start < last and end > first
    ]


def _entry(entry: Mapping[str, Any], moved: Any) -> dict[str, Any]:
    start, end = moved(entry["start"], entry["end"]) if entry["text"] else (None, None)
    confidence = entry.get("confidence")
    return {
        "text": _short(entry["text"]),
        "probability": round(entry["probability"], 4),
        "confidence": round(confidence, 4) if isinstance(confidence, int | float) else None,
        "start": start,
        "end": end,
    }


def _rounded(values_Q: np.ndarray | None, row: int) -> float | None:
    return None if values_Q is None else round(float(values_Q[row]), 4)


def _short(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"
