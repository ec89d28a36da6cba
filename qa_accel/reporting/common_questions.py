"""Runs to compare -> the same runs on the questions that all of them answered, in one order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qa_accel.answer_language import language_of, spelled_language
from qa_accel.messages import quoted
from qa_accel.reporting.run_data import RunData
from qa_accel.reporting.run_files import RunFiles


def common_data(found: Sequence[tuple[RunFiles, RunData]], names: Sequence[str]) -> tuple[list[RunData], list[str]]:
    """The data of each run, cut to the common questions, and warnings, in which the runs have these `names`.

    A question is common if its text, context and gold answers are equal in all. Raises ValueError where there is none, and where
    the rules of several languages compare the runs' answers.
    """
    first_files, first = found[0]
    rows_of = [_rows(data) for _, data in found]
    keys = [key for key in first.ids if all(key in rows for rows in rows_of)]
    for files, data in found[1:]:
        if any(language_of(data.answer_language, key) != language_of(first.answer_language, key) for key in keys):
            here, there = map(spelled_language, (first.answer_language, data.answer_language))
            raise ValueError(
                f"{first_files.path} is scored with --answer_language {here}, {files.path} with {there}: such scores cannot be "
                "compared; give the language of the answers with --answer_language, which then holds for all"
            )
    equal = [
        key
        for key in keys
        if all(_same(first, rows_of[0][key], data, rows[key]) for (_, data), rows in zip(found, rows_of))
    ]
    if not equal:
        files, data = found[1] if len(found) > 1 else found[0]
        what = "the same ids but other questions, contexts or gold answers" if keys else "no id in common"
        raise ValueError(
            f"{first_files.path} ({first.source}) and {files.path} ({data.source}) have {what}: only answers to the same questions "
            "can be compared"
        )
    warnings = []
    for name, (_, data) in zip(names, found):
        if missing := len(data.ids) - len(equal):
            warnings.append(
                f"The data differ: {missing:,} of {len(data.ids):,} questions of {quoted(name)} are not in the others, or have "
                f"another text, another context or other gold answers there; compared are {len(equal):,}."
            )
    return [cut(data, [rows[key] for key in equal]) for (_, data), rows in zip(found, rows_of)], warnings


def _rows(data: RunData) -> Mapping[str, int]:
    return {key: row for row, key in enumerate(data.ids)}


def _same(one: RunData, row: int, other: RunData, other_row: int) -> bool:
    return one is other or (
        one.questions[row] == other.questions[other_row]
        and one.contexts[row] == other.contexts[other_row]
        and set(one.gold_texts[row]) == set(other.gold_texts[other_row])
    )


def cut(data: RunData, rows: Sequence[int]) -> RunData:
    """These questions, in this order."""
    if list(rows) == list(range(len(data.ids))):
        return data
    columns = ("ids", "questions", "contexts", "titles", "sets", "gold_texts", "gold_starts")
    chosen = {name: [getattr(data, name)[row] for row in rows] for name in columns}
    reach = None if data.reach is None else data.reach.of_rows(rows)
    return replace(data, **chosen, reach=reach, is_part=True)
