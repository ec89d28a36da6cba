"""Windows' labels and the gold answers -> what training teaches otherwise than the answers say, by count and by id.

A label is a span of tokens; what it reads is the context's characters that these tokens cover.
"""

from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa

from qa_accel.data.window_assembly import ranges
from qa_accel.data.window_cache import gold_answers
from qa_accel.data.windows import GoldSpans, Windows, end_of_character

ROWS = 2000  # questions in memory at once


@dataclass(frozen=True)
class UnlikeLabel:
    id: str
    answer: str
    label_reads: str


@dataclass(frozen=True)
class LabelReport:
    windows_with_later_answer: int
    """Windows that do not hold the question's first gold answer whole and are labelled with a later one."""
    unlike_labels: tuple[UnlikeLabel, ...]
    """Questions none of whose labels reads as a gold answer: its tokens cover more characters than the answer, or others."""
    long_answer_ids: tuple[str, ...] | None
    """Questions whose label has more than max_answer_length tokens: prediction cannot give it. None: no such limit."""


def audit_labels(windows: Windows, questions: datasets.Dataset, max_answer_length: int | None) -> LabelReport:
    """`questions` must have an answers column."""
    gold = _all_gold_answers(questions)
    window_L = np.flatnonzero(windows.start_W != windows.null_W)  # L: windows with a label
    question_L, first_token_L = windows.question_W[window_L], windows.begin_W[window_L]
    begin_L = windows.offset_start_N[first_token_L + windows.start_W[window_L]]
    end_L = windows.offset_end_N[first_token_L + windows.end_W[window_L]]
    return LabelReport(
        windows_with_later_answer=_with_later_answer(gold, question_L, begin_L, end_L),
        unlike_labels=_unlike_labels(questions, gold, question_L, begin_L, end_L),
        long_answer_ids=None
        if max_answer_length is None
        else _ids(questions, _with_long_answer(windows, window_L, max_answer_length)),
    )


def _all_gold_answers(questions: datasets.Dataset) -> GoldSpans:
    pieces, first = [GoldSpans.none()], 0
    table: pa.Table
    for table in questions.select_columns(["answers"]).with_format("arrow").iter(ROWS):  # type: ignore[assignment]
        piece = gold_answers(table.combine_chunks())
        pieces.append(GoldSpans(piece.question_A + first, piece.begin_A, piece.end_A))
        first += table.num_rows
    return GoldSpans(*(np.concatenate([getattr(p, name) for p in pieces]) for name in vars(pieces[0])))


def _with_later_answer(gold: GoldSpans, question_L: np.ndarray, begin_L: np.ndarray, end_L: np.ndarray) -> int:
    """Number of labels that share no character with their question's first answer."""
    first_L = np.searchsorted(gold.question_A, question_L)
    return int(np.count_nonzero((end_L <= gold.begin_A[first_L]) | (begin_L >= gold.end_A[first_L])))


def _with_long_answer(windows: Windows, window_L: np.ndarray, max_answer_length: int) -> np.ndarray:
    """Questions whose shortest label is longer."""
    tokens_L = windows.end_W[window_L] - windows.start_W[window_L] + 1
    within = windows.question_W[window_L[tokens_L <= max_answer_length]]
    return np.setdiff1d(windows.question_W[window_L], within)


def _unlike_labels(
    questions: datasets.Dataset, gold: GoldSpans, question_L: np.ndarray, begin_L: np.ndarray, end_L: np.ndarray
) -> tuple[UnlikeLabel, ...]:
    first_L = np.searchsorted(gold.question_A, question_L)
    count_L = np.searchsorted(gold.question_A, question_L, side="right") - first_L
    label_X, answer_X = np.repeat(np.arange(len(question_L)), count_L), ranges(first_L, count_L)
    equal_X = (begin_L[label_X] == gold.begin_A[answer_X]) & (end_L[label_X] == gold.end_A[answer_X])
    unequal_L = ~np.isin(question_L, question_L[label_X[equal_X]])
    candidates, first_label = np.unique(question_L[unequal_L], return_index=True)
    found = []
    for row, begin, end in zip(candidates, begin_L[unequal_L][first_label], end_L[unequal_L][first_label]):
        question = questions[int(row)]
        texts = [text.strip() for text in question["answers"]["text"]]
        reads = question["context"][begin : end_of_character(question["context"], int(end))].strip()
        if reads not in texts:
            found.append(UnlikeLabel(question["id"], texts[0], reads))
    return tuple(found)


def _ids(questions: datasets.Dataset, rows: np.ndarray) -> tuple[str, ...]:
    return tuple(questions.select_columns(["id"]).select(rows)["id"][:])
