"""Reports of the audit -> the table that a run prints: counts, one column per split, and the first faulty rows."""

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from qa_accel.data.audit import SplitReport
from qa_accel.data.gold_answers import IMPOSSIBLE_WITH_ANSWER, POSSIBLE_WITHOUT_ANSWER
from qa_accel.data.label_audit import SeveralAnswers, UnlikeLabel
from qa_accel.messages import quoted

LISTED = 3  # rows per kind
ALL_LISTED = ", all in data_report.json"


def report_table(reports: Mapping[str, SplitReport]) -> Table:
    """Counts, one column per split; below them the first faulty rows."""
    table = Table("", title="Data", title_justify="left")
    for split in reports:
        table.add_column(split, justify="right")
    columns = [counts(report) for report in reports.values()]
    for name in names_of_rows(columns):
        table.add_row(name, *(column.get(name, "-") for column in columns))
    lines = [f"{split}: {line}" for split, report in reports.items() for line in remarks(report)]
    layout = Table.grid()
    layout.add_row(table)
    # Text, since a context's "[b]" must not be read as a style; a separate row, since a caption is as narrow as its table.
    layout.add_row(Text("\n".join(lines)))
    return layout


def names_of_rows(columns: Sequence[Mapping[str, str]]) -> list[str]:
    """Names of all counts of these splits; one split may have more of them than another."""
    return list(dict.fromkeys(name for column in columns for name in column))


def counts(report: SplitReport) -> dict[str, str]:
    """Name of each count -> its number in words."""
    questions, windows = report.questions, report.windows
    column = {
        "questions": _count(questions.questions),
        "contexts": _count(questions.contexts),
        "without answer": _count(questions.without_answer, questions.share_without_answer),
        "answers not at their offset": _count(
            len(questions.misplaced_answers) if questions.without_answer is not None else None
        ),
        "questions dropped for it": _count(len(questions.dropped_ids)),
        "repeated ids": _count(len(questions.repeated_ids)),
        "empty questions": _count(len(questions.empty_question_ids)),
        "empty contexts": _count(len(questions.empty_context_ids)),
    }
    names = (
        "windows",
        "tokens",
        "windows per question",
        "windows with answer",
        "windows labelled by a later answer",
        "answers lost to windowing",
        "labels unlike their answer",
        "answers over max_answer_length",
        "questions cut",
    )
    if windows is None:
        return column | dict.fromkeys(names, "-")
    labels = windows.labels
    cells = (
        _count(windows.windows),
        f"{_count(windows.tokens)} (longest {windows.longest_window})",
        f"{windows.windows_per_question_mean:.2f} (most {windows.windows_per_question_max})",
        _count(windows.windows_with_answer, windows.share_with_answer),
        _count(None if labels is None else labels.windows_with_later_answer),
        _count(None if windows.lost_answer_ids is None else len(windows.lost_answer_ids)),
        _count(None if labels is None else len(labels.unlike_labels)),
        _count(None if labels is None or labels.long_answer_ids is None else len(labels.long_answer_ids)),
        _count(None if windows.cut_question_ids is None else len(windows.cut_question_ids)),
    )
    column |= dict(zip(names, cells))
    if labels is not None and labels.several is not None:
        column |= _counts_of_several(labels.several)
    if windows.epoch is not None:
        epoch = windows.epoch
        column["windows of each epoch"] = (
            f"{_count(epoch.with_answer)} with, {_count(epoch.without_answer)} without answer"
        )
    return column


def _counts_of_several(several: SeveralAnswers) -> dict[str, str]:
    apart = _count(several.questions_with_answers_apart)
    column = {"questions with several answers": f"{_count(several.questions)} ({apart} with answers apart)"}
    if several.windows_left_out is not None:
        column["windows left out"] = _count(several.windows_left_out)
    if several.windows_with_several_labels is not None:
        column["windows with several labels"] = (
            f"{_count(several.windows_with_several_labels)} (most {several.most_labels})"
        )
    if several.partly_lost_ids is not None:
        column["questions with some answers lost"] = _count(len(several.partly_lost_ids))
    return column | {"windows with a part of an answer": _count(several.windows_with_a_part)}


def _count(count: int | None, share: float | None = None) -> str:
    if count is None:
        return "-"
    return f"{count:,}" + (f" ({share:.1%})" if share is not None else "")


def remarks(report: SplitReport) -> Iterator[str]:
    """The first faulty rows of each kind, a line each."""
    questions, windows = report.questions, report.windows
    remark = "dropped (offsets count characters)" if questions.dropped_ids else "kept, since every question is scored"
    yield from _some([f"{answer.described()}; {remark}" for answer in questions.misplaced_answers])
    yield from _some([f"id {quoted(i)} occurs more than once" for i in questions.repeated_ids])
    yield from _some([f"id {quoted(i)} has an empty question" for i in questions.empty_question_ids])
    yield from _some([f"id {quoted(i)} has an empty context" for i in questions.empty_context_ids])
    for meaning, ids in (
        (IMPOSSIBLE_WITH_ANSWER, questions.impossible_with_answer_ids),
        (POSSIBLE_WITHOUT_ANSWER, questions.possible_without_answer_ids),
    ):
        yield from _some([f"id {quoted(i)}: {meaning}; counted as without answer" for i in ids])
    if windows is not None:
        yield from _some([f"no window holds the whole answer of id {quoted(i)}" for i in windows.lost_answer_ids or ()])
        if windows.labels is not None:
            lost = windows.labels.several.partly_lost_ids if windows.labels.several is not None else None
            yield from _some([f"no window holds some of the answers of id {quoted(i)} whole" for i in lost or ()])
            yield from _some([_unlike(label) for label in windows.labels.unlike_labels])
            yield from _some(
                [
                    f"the answer of id {quoted(i)} is longer than max_answer_length"
                    for i in windows.labels.long_answer_ids or ()
                ]
            )
        yield from _some(
            [f"id {quoted(i)} has a question longer than max_query_length" for i in windows.cut_question_ids or ()]
        )
        if windows.suggested_max_query_length is not None:
            yield f"many questions are cut; suggested: --max_query_length {windows.suggested_max_query_length}"


def _some(lines: list[str]) -> list[str]:
    more = len(lines) - LISTED
    return lines[:LISTED] + ([f"... and {more:,} more of this kind{ALL_LISTED}"] if more > 0 else [])


def _unlike(label: UnlikeLabel) -> str:
    return f"id {quoted(label.id)}: the tokens of the answer {quoted(label.answer)} read {quoted(label.label_reads)}"
