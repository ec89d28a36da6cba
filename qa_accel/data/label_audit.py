"""Windows' labels and the gold answers -> what training teaches otherwise than the answers say, by count and by id.

A label is a span of tokens; what it reads is the context's characters that these tokens cover.
"""

import unicodedata
from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa

from qa_accel.data.settings import LabelledAnswers
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
class SeveralAnswers:
    """Of training questions with several gold answers. Answers of the same characters count once."""

    questions: int
    """Questions with several."""
    questions_with_answers_apart: int
    """Those of which two share no character: parts of a list, or clauses, not one answer as several annotators give it."""
    windows_with_a_part: int
    """Windows with a part of a gold answer and none whole: they are taught "no answer"."""
    windows_left_out: int | None = None
    """Windows with a later answer and without the first one, which are not trained on. None unless only first ones are labels."""
    windows_with_several_labels: int | None = None
    """None unless all answers are labels, as in what follows."""
    most_labels: int | None = None
    """Of one window."""
    partly_lost_ids: tuple[str, ...] | None = None
    """Questions of which some answers are whole in a window and others in none."""


@dataclass(frozen=True)
class LabelReport:
    windows_with_later_answer: int
    """Windows of which a label is another answer than the question's first one: they share no character."""
    unlike_labels: tuple[UnlikeLabel, ...]
    """Questions none of whose labels reads as a gold answer: its tokens cover more characters than the answer, or others."""
    long_answer_ids: tuple[str, ...] | None
    """Questions whose label has more than max_answer_length tokens: prediction cannot give it. None: no such limit."""
    several: SeveralAnswers | None = None
    """None for data that are not trained on, and where each question has one answer at most."""


@dataclass(frozen=True)
class _Labels:
    """The labels of all windows, L of them, as characters of their contexts."""

    window_L: np.ndarray
    question_L: np.ndarray
    begin_L: np.ndarray
    end_L: np.ndarray
    tokens_L: np.ndarray
    """Number of tokens of each."""


def audit_labels(
    windows: Windows,
    questions: datasets.Dataset,
    max_answer_length: int | None,
    labelled: LabelledAnswers | None = None,
) -> LabelReport:
    """`questions` must have an answers column. labelled: which answers are labels in training; None: no training data."""
    gold, labels = _all_gold_answers(questions), _labels(windows)
    return LabelReport(
        windows_with_later_answer=_with_later_answer(gold, labels),
        unlike_labels=_unlike_labels(questions, gold, labels),
        long_answer_ids=None if max_answer_length is None else _ids(questions, _too_long(labels, max_answer_length)),
        several=None if labelled is None else _several(windows, questions, gold, labels, labelled),
    )


def _labels(windows: Windows) -> _Labels:
    if windows.gold_begin_W is not None and windows.gold_start_G is not None and windows.gold_end_G is not None:
        window_L = np.repeat(np.arange(len(windows)), np.diff(windows.gold_begin_W))
        start_L, last_L = windows.gold_start_G, windows.gold_end_G
    else:
        window_L = np.flatnonzero(windows.start_W != windows.null_W)
        start_L, last_L = windows.start_W[window_L], windows.end_W[window_L]
    token_L = windows.begin_W[window_L]
    return _Labels(
        window_L,
        windows.question_W[window_L],
        windows.offset_start_N[token_L + start_L],
        windows.offset_end_N[token_L + last_L],
        last_L - start_L + 1,
    )


def _all_gold_answers(questions: datasets.Dataset) -> GoldSpans:
    pieces, first = [GoldSpans.none()], 0
    table: pa.Table
    for table in questions.select_columns(["answers"]).with_format("arrow").iter(ROWS):  # type: ignore[assignment]
        piece = gold_answers(table.combine_chunks())
        pieces.append(GoldSpans(piece.question_A + first, piece.begin_A, piece.end_A))
        first += table.num_rows
    question_A, begin_A, end_A = (
        np.concatenate([getattr(each, name) for each in pieces]) for name in ("question_A", "begin_A", "end_A")
    )
    return GoldSpans(question_A, begin_A, end_A)


def _with_later_answer(gold: GoldSpans, labels: _Labels) -> int:
    """Number of windows with a label that shares no character with the question's first answer."""
    first_L = np.searchsorted(gold.question_A, labels.question_L)
    apart_L = (labels.end_L <= gold.begin_A[first_L]) | (labels.begin_L >= gold.end_A[first_L])
    return len(np.unique(labels.window_L[apart_L]))


def _too_long(labels: _Labels, max_answer_length: int) -> np.ndarray:
    """Questions whose shortest label is longer."""
    within = labels.question_L[labels.tokens_L <= max_answer_length]
    return np.setdiff1d(labels.question_L, within)


def _unlike_labels(questions: datasets.Dataset, gold: GoldSpans, labels: _Labels) -> tuple[UnlikeLabel, ...]:
    question_L, begin_L, end_L = labels.question_L, labels.begin_L, labels.end_L
    first_L, count_L = _answers_of(gold, question_L)
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


def _several(
    windows: Windows, questions: datasets.Dataset, gold: GoldSpans, labels: _Labels, labelled: LabelledAnswers
) -> SeveralAnswers | None:
    distinct = np.unique(np.stack([gold.question_A, gold.begin_A, gold.end_A]), axis=1)  # by question, then by begin
    question_Q, first_Q, count_Q = np.unique(distinct[0], return_index=True, return_counts=True)
    if labelled == "any" and count_Q.max(initial=0) < 2:
        return None
    # two share no character: one begins where another one has ended
    apart_Q = count_Q > 1
    if len(question_Q):
        apart_Q = np.maximum.reduceat(distinct[1], first_Q) >= np.minimum.reduceat(distinct[2], first_Q)
    labels_W = np.zeros(len(windows), int) if windows.gold_begin_W is None else np.diff(windows.gold_begin_W)
    return SeveralAnswers(
        questions=int(np.count_nonzero(count_Q > 1)),
        questions_with_answers_apart=int(np.count_nonzero(apart_Q)),
        windows_with_a_part=_with_a_part(windows, gold),
        windows_left_out=None if windows.left_out_W is None else int(np.count_nonzero(windows.left_out_W)),
        windows_with_several_labels=int(np.count_nonzero(labels_W > 1)) if labelled == "all" else None,
        most_labels=int(labels_W.max(initial=0)) if labelled == "all" else None,
        partly_lost_ids=_ids(questions, _partly_lost(questions, gold, labels)) if labelled == "all" else None,
    )


def _with_a_part(windows: Windows, gold: GoldSpans) -> int:
    """Number of windows without label that hold characters of a gold answer of their question."""
    null_W = (windows.start_W == windows.null_W) & (windows.context_begin_W < windows.context_end_W)
    if windows.left_out_W is not None:
        null_W &= ~windows.left_out_W
    window = np.flatnonzero(null_W)
    first, count = _answers_of(gold, windows.question_W[window])
    window_X, answer_X = np.repeat(window, count), ranges(first, count)
    token_X = windows.begin_W[window_X]
    begin_X = windows.offset_start_N[token_X + windows.context_begin_W[window_X]]
    end_X = windows.offset_end_N[token_X + windows.context_end_W[window_X] - 1]
    shared_X = np.minimum(end_X, gold.end_A[answer_X]) > np.maximum(begin_X, gold.begin_A[answer_X])
    return len(np.unique(window_X[shared_X]))


def _partly_lost(questions: datasets.Dataset, gold: GoldSpans, labels: _Labels) -> np.ndarray:
    """Questions with labels of which some answers are whole in no window: no label covers them."""
    first_L, count_L = _answers_of(gold, labels.question_L)
    label_X, answer_X = np.repeat(np.arange(len(first_L)), count_L), ranges(first_L, count_L)
    covered_A = np.zeros(len(gold.question_A), bool)
    covers_X = (labels.begin_L[label_X] <= gold.begin_A[answer_X]) & (labels.end_L[label_X] >= gold.end_A[answer_X])
    covered_A[answer_X[covers_X]] = True
    answers, lost = questions.select_columns(["answers"]), []
    for answer in np.flatnonzero(~covered_A & np.isin(gold.question_A, labels.question_L)):
        row = gold.question_A[answer]
        # tokens may leave out blanks and marks at the answer's ends
        text = answers[int(row)]["answers"]["text"][answer - np.searchsorted(gold.question_A, row)]
        begin, end = gold.begin_A[answer] + len(text) - len(text.lstrip()), gold.begin_A[answer] + _length(text)
        of_question = slice(*np.searchsorted(labels.question_L, (row, row + 1)))
        if not ((labels.begin_L[of_question] <= begin) & (labels.end_L[of_question] >= end)).any():
            lost.append(row)
    return np.unique(np.array(lost, np.int64))


def _length(text: str) -> int:
    """Characters up to the last one that is neither a blank nor a mark."""
    while text and (text[-1].isspace() or unicodedata.category(text[-1])[0] == "M"):
        text = text[:-1]
    return len(text)


def _answers_of(gold: GoldSpans, question_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First gold answer and number of gold answers of these questions."""
    first_L = np.searchsorted(gold.question_A, question_L)
    return first_L, np.searchsorted(gold.question_A, question_L, side="right") - first_L


def _ids(questions: datasets.Dataset, rows: np.ndarray) -> tuple[str, ...]:
    return tuple(questions.select_columns(["id"]).select(rows)["id"][:])
