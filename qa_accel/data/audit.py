"""Questions and their windows -> counts, and a list of the faulty rows.

A training row whose answer is not at its offset would teach a wrong span: it is dropped and listed. A row for
evaluation stays whatever it holds, since a score counts every question.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from qa_accel.data.contexts import Contexts
from qa_accel.data.gold_answers import IMPOSSIBLE_WITH_ANSWER, POSSIBLE_WITHOUT_ANSWER
from qa_accel.data.label_audit import LabelReport, SeveralAnswers, UnlikeLabel, audit_labels
from qa_accel.data.questions import answer_counts, contradicting_ids, select_rows
from qa_accel.data.settings import LabelledAnswers
from qa_accel.data.windows import Windows
from qa_accel.messages import quoted

ROWS = 2000  # questions in memory at once
IF_THERE = ("epoch", "suggested_max_query_length")
"""Entries of a window report that data_report.json has only where they say something."""


@dataclass(frozen=True)
class MisplacedAnswer:
    id: str
    answer_start: int
    answer: str
    context_reads: str
    """The text at the offset, as long as the answer; empty if the offset is outside of the context."""

    def described(self) -> str:
        if _is_blank(self.answer):
            return f"id {quoted(self.id)}: the answer is blank; a question without answer has an empty list"
        reads, answer = quoted(self.context_reads), quoted(self.answer)
        return f"id {quoted(self.id)}: context reads {reads} at {self.answer_start}, answer is {answer}"


@dataclass(frozen=True)
class QuestionReport:
    questions: int
    """Number before any is dropped."""
    contexts: int
    """Number of distinct contexts."""
    without_answer: int | None
    """Number of questions; None if the data has no answers, as for all counts about answers."""
    share_without_answer: float | None
    misplaced_answers: tuple[MisplacedAnswer, ...]
    """Answers that differ from their context at their offset, and blank ones."""
    dropped_ids: tuple[str, ...]
    """Training questions with a misplaced answer."""
    repeated_ids: tuple[str, ...]
    empty_question_ids: tuple[str, ...]
    """Questions that are empty or blank."""
    empty_context_ids: tuple[str, ...]
    """Questions whose context is empty or blank."""
    impossible_with_answer_ids: tuple[str, ...] = ()
    """is_impossible is true beside an answer in the cells answer_text and answer_start; without answer here."""
    possible_without_answer_ids: tuple[str, ...] = ()
    """is_impossible is false, but there is no answer; without answer here."""


@dataclass(frozen=True)
class EpochReport:
    """Numbers of windows in each epoch of training."""

    with_answer: int
    without_answer: int


@dataclass(frozen=True)
class WindowReport:
    windows: int
    tokens: int
    """In all windows, including question and special tokens, without padding."""
    longest_window: int
    """In tokens."""
    windows_per_question_mean: float
    windows_per_question_max: int
    windows_with_answer: int | None
    share_with_answer: float | None
    """Share of the windows."""
    lost_answer_ids: tuple[str, ...] | None
    """Answerable questions of which no window has a label: none of the labelled answers is whole in a window."""
    cut_question_ids: tuple[str, ...] | None
    """Questions longer than max_query_length; None if the windows do not record it."""
    labels: LabelReport | None = None
    """None if the data has no answers."""
    epoch: EpochReport | None = None
    """None if each epoch has every window."""
    suggested_max_query_length: int | None = None
    """A length that cuts few questions, if now many are cut."""


@dataclass(frozen=True)
class SplitReport:
    questions: QuestionReport
    windows: WindowReport | None = None

    def as_dict(self) -> dict[str, Any]:
        content = dataclasses.asdict(self)
        if content["windows"] is not None:
            for name in IF_THERE:
                if content["windows"][name] is None:
                    del content["windows"][name]
            labels = content["windows"]["labels"]
            if labels is not None and labels["several"] is None:
                del labels["several"]
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "SplitReport":
        """Of `as_dict`, lists in place of tuples allowed, as in data_report.json. Raises TypeError or KeyError for other content."""
        questions, windows = dict(content["questions"]), content.get("windows")
        questions["misplaced_answers"] = tuple(MisplacedAnswer(**each) for each in questions["misplaced_answers"])
        if windows is not None and (labels := windows.get("labels")) is not None:
            unlike = tuple(UnlikeLabel(**each) for each in labels["unlike_labels"])
            several = labels.get("several")
            several = None if several is None else SeveralAnswers(**several)
            windows = {**windows, "labels": LabelReport(**{**labels, "unlike_labels": unlike, "several": several})}
        if windows is not None and (epoch := windows.get("epoch")) is not None:
            windows = {**windows, "epoch": EpochReport(**epoch)}
        return cls(QuestionReport(**questions), None if windows is None else WindowReport(**windows))


def audit_questions(questions: datasets.Dataset, *, training: bool) -> tuple[datasets.Dataset, QuestionReport]:
    """The kept questions (the same object if all are kept) and the report."""
    dropped, report = audit_rows(questions, training=training)
    return without_rows(questions, dropped), report


def without_rows(questions: datasets.Dataset, dropped: Sequence[int]) -> datasets.Dataset:
    return select_rows(questions, np.delete(np.arange(len(questions)), np.array(dropped, np.int64)))


def audit_rows(questions: datasets.Dataset, *, training: bool) -> tuple[list[int], QuestionReport]:
    """The rows that are to be dropped, and the report."""
    has_answers = "answers" in questions.column_names
    ids: list[str] = []
    contexts: set[int] = set()
    empty_questions, empty_contexts = [], []
    misplaced: dict[int, list[MisplacedAnswer]] = {}
    without_answer = 0
    for table in _pieces(questions, "id", "question", "context", *(["answers"] if has_answers else [])):
        first, piece_ids = len(ids), table["id"].to_pylist()
        ids += piece_ids
        empty_questions += [i for i, text in zip(piece_ids, table["question"].to_pylist()) if _is_blank(text)]
        texts, blank = Contexts(table["context"]), []
        for number in range(len(texts)):
            text = texts.text(number)
            contexts.add(hash(text))  # 64 bits each: the texts themselves may not fit in memory
            blank.append(_is_blank(text))
        empty_contexts += [piece_ids[row] for row in np.flatnonzero(np.array(blank, bool)[texts.text_Q])]
        if not has_answers:
            continue
        answers = table["answers"].combine_chunks()
        counts = answers.field("text").value_lengths().to_numpy()
        without_answer += int(np.count_nonzero(counts == 0))
        rows = np.repeat(np.arange(len(counts)), counts).tolist()
        starts = answers.field("answer_start").flatten().to_pylist()
        for row, start, answer in zip(rows, starts, answers.field("text").flatten().to_pylist()):
            context = texts.text(int(texts.text_Q[row]))
            # A negative start would count from the context's end.
            if start < 0 or not context.startswith(answer, start) or _is_blank(answer):
                reads = context[start : start + len(answer)] if start >= 0 else ""
                found = MisplacedAnswer(piece_ids[row], start, answer, reads)
                misplaced.setdefault(first + row, []).append(found)
    report = QuestionReport(
        questions=len(ids),
        contexts=len(contexts),
        without_answer=without_answer if has_answers else None,
        share_without_answer=without_answer / len(ids) if has_answers else None,
        misplaced_answers=tuple(answer for answers in misplaced.values() for answer in answers),
        dropped_ids=tuple(ids[row] for row in misplaced) if training else (),
        repeated_ids=tuple(i for i, count in Counter(ids).items() if count > 1),
        empty_question_ids=tuple(empty_questions),
        empty_context_ids=tuple(empty_contexts),
        impossible_with_answer_ids=tuple(contradicting_ids(questions, IMPOSSIBLE_WITH_ANSWER)),
        possible_without_answer_ids=tuple(contradicting_ids(questions, POSSIBLE_WITHOUT_ANSWER)),
    )
    if training and len(misplaced) == len(ids):
        raise ValueError(
            f"none of {len(ids)} training questions is left, since no answer is at its offset (first: "
            f"{report.misplaced_answers[0].described()}); offsets count characters of the context"
        )
    return list(misplaced) if training else [], report


def audit_windows(
    windows: Windows,
    questions: datasets.Dataset,
    max_answer_length: int | None = None,
    labelled: LabelledAnswers | None = None,
) -> WindowReport:
    """Counts of the windows of the kept questions. max_answer_length: tokens of the longest answer of prediction.
    labelled: which gold answers are labels in training; None for windows that are not trained on."""
    ids = np.array(questions["id"][:], dtype=object)
    per_question_Q = np.bincount(windows.question_W, minlength=len(ids))
    lengths_W = np.diff(windows.begin_W)
    with_answer = share = lost = cut = labels = None
    if "answers" in questions.column_names:
        holds_W = windows.start_W != windows.null_W
        held_Q = np.zeros(len(ids), dtype=bool)
        held_Q[windows.question_W[holds_W]] = True
        with_answer, share = int(holds_W.sum()), float(holds_W.mean())
        lost = tuple(ids[(answer_counts(questions) > 0) & ~held_Q])
        labels = audit_labels(windows, questions, max_answer_length, labelled)
    if getattr(windows, "question_cut_Q", None) is not None:
        cut = tuple(ids[np.asarray(windows.question_cut_Q, dtype=bool)])
    return WindowReport(
        windows=len(lengths_W),
        tokens=int(lengths_W.sum()),
        longest_window=int(lengths_W.max(initial=0)),
        windows_per_question_mean=float(per_question_Q.mean()),
        windows_per_question_max=int(per_question_Q.max(initial=0)),
        windows_with_answer=with_answer,
        share_with_answer=share,
        lost_answer_ids=lost,
        cut_question_ids=cut,
        labels=labels,
    )


def answers_out_of_reach(report: SplitReport | None) -> int:
    """Number of questions whose gold answer no prediction can equal: longer than max_answer_length, or whole in no window."""
    if report is None or report.windows is None or report.windows.labels is None:
        return 0
    return len(report.windows.labels.long_answer_ids or ()) + len(report.windows.lost_answer_ids or ())


def report_as_dict(reports: Mapping[str, SplitReport]) -> dict[str, Any]:
    """Content of data_report.json: every count and every listed row of each split."""
    return {split: report.as_dict() for split, report in reports.items()}


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def _pieces(questions: datasets.Dataset, *columns: str) -> Iterator[pa.Table]:
    for table in questions.select_columns(list(columns)).with_format("arrow").iter(ROWS):
        yield table.combine_chunks()  # type: ignore[union-attr]
