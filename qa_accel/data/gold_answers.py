"""A row's columns -> its gold answers, whatever form they have there. None: the row says nothing about answers.

No answer is an empty list, blank text, or `is_impossible`. Texts and offsets are never changed.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from qa_accel.input_files import parse_json
from qa_accel.messages import listed, quoted, shown

Answers = dict[str, list[Any]]
NO_ANSWER: Answers = {"text": [], "answer_start": []}
EXPECTED = '{"text": [...], "answer_start": [...]} or [{"text": ..., "answer_start": ...}, ...]'
NEEDED = "each needs text and answer_start"

IMPOSSIBLE_WITH_ANSWER = "is_impossible is true beside an answer"
POSSIBLE_WITHOUT_ANSWER = "is_impossible is false, but there is no answer"

SPELLINGS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}


ACCEPTED = "accepted_answers"
"""Column of texts that a scorer compares with in place of the answers' own: a benchmark accepts more than its contexts hold."""


class Gold(NamedTuple):
    answers: Answers | None
    contradiction: str | None = None
    """What `is_impossible` says against the answers, if that is no error."""


class _Given(NamedTuple):
    pairs: list[tuple[Any, Any]]
    """Text and offset of each answer, unchecked; the offset is None if there is none."""
    in_cells: bool
    """Whether they come from the cells answer_text and answer_start, which hold an answer even if it is not gold."""


def gold_answers(values: dict[str, Any], name: str) -> Gold:
    """The answers in column `name`, or else in the cells answer_text (or answer) and answer_start."""
    given, impossible = _given(values, name), is_impossible(values)
    if given is None:
        return Gold(NO_ANSWER if impossible else None)
    pairs = [(text, start) for text, start in given.pairs if not is_blank(text)]
    for text, start in pairs:
        _check(text, start)
    if impossible and pairs:
        if not given.in_cells:
            raise ValueError(
                f"is_impossible is true, but the answer {quoted(pairs[0][0])} is given; take out one of the two"
            )
        return Gold(NO_ANSWER, IMPOSSIBLE_WITH_ANSWER)
    if not pairs:
        return Gold(NO_ANSWER, POSSIBLE_WITHOUT_ANSWER if impossible is False else None)
    return Gold({"text": [text for text, _ in pairs], "answer_start": [start for _, start in pairs]})


def gold_texts(values: dict[str, Any], name: str) -> list[str] | None:
    """The texts that the official scorer compares with: it needs no offsets, keeps blank texts, and if there are
    answers it does not ask `is_impossible`."""
    accepted = values.get(ACCEPTED)
    if accepted is not None and not is_blank(accepted):  # null, or an empty cell, in rows of a table that have none
        values = {name: accepted}
    given = _given(values, name, offsets=False)
    if given is None:
        return [] if is_impossible(values) else None
    if given.in_cells and is_impossible(values):
        return []
    for text, _ in given.pairs:
        _check_text(text)
    return [text for text, _ in given.pairs]


def is_impossible(values: dict[str, Any]) -> bool | None:
    """None if the row does not say it: no such column, null, an empty cell or NaN."""
    value = values.get("is_impossible")
    if value is None or isinstance(value, bool):
        return value
    if value != value or is_blank(value):
        return None
    spelling = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    if spelling not in SPELLINGS:
        raise ValueError(f"is_impossible is {shown(value)}; expected one of {', '.join(SPELLINGS)}, or an empty cell")
    return SPELLINGS[spelling]


def is_blank(text: Any) -> bool:
    return isinstance(text, str) and not text.strip()


def without_offsets(found: Iterable[str], name: str) -> ValueError | None:
    """The error for a source that has the texts of answers and no offsets; None if it has no texts either."""
    columns = [key for key in ("answer", "answer_text") if key in found]
    if not columns or name in found:
        return None
    return ValueError(
        f"no column 'answer_start' beside {columns[0]!r}; found {listed(list(found))}; add it: the place of the answer's "
        "first character in the context, counted from 0"
    )


def _given(values: dict[str, Any], name: str, *, offsets: bool = True) -> _Given | None:
    if name in values:
        answers = values[name]
        if isinstance(answers, str):
            answers = None if is_blank(answers) else _parsed(name, answers)
        return None if answers is None else _Given(_pairs(name, answers), in_cells=False)
    if isinstance(values.get("answer"), dict):  # KorQuAD 2
        return _Given(_pairs("answer", [values["answer"]]), in_cells=False)
    column = "answer_text" if "answer_text" in values or "answer" not in values else "answer"
    if offsets and column == "answer" and "answer_start" not in values:
        return None  # a file for prediction may have such a column
    if column not in values and "answer_start" not in values:
        return None
    for needed in (column, *(["answer_start"] if offsets else [])):
        if needed not in values:
            raise without_offsets(values, name) or ValueError(
                f"no column {needed!r} beside 'answer_start'; found {listed(values)}; add it, or give it this name"
            )
    text, start = values[column], values.get("answer_start")
    if is_blank(text) or (text is None and start in (None, "")):
        return _Given([], in_cells=True)
    return _Given([(text, _whole(start) if offsets else None)], in_cells=True)


def _parsed(name: str, cell: str) -> Any:
    try:
        return parse_json(cell)
    except ValueError as error:
        raise ValueError(
            f"{name!r} is {shown(cell)}, which is not JSON ({error}); "
            'write {"text": ["Paris"], "answer_start": [17]}, or the columns answer_text and answer_start'
        ) from error


def _pairs(name: str, answers: Any) -> list[tuple[Any, Any]]:
    if isinstance(answers, list):
        return [_pair(answer) for answer in answers]
    texts, starts = (answers.get("text"), answers.get("answer_start")) if isinstance(answers, dict) else (None, None)
    if not isinstance(texts, list) or not isinstance(starts, list | None):
        raise ValueError(f"{name!r} is {shown(answers)}; expected {EXPECTED}")
    if starts is None:
        return [(text, None) for text in texts]
    if len(texts) != len(starts):
        raise ValueError(f"{len(texts)} answer texts but {len(starts)} answer_start; each text needs its offset")
    return list(zip(texts, starts, strict=True))


def _pair(answer: Any) -> tuple[Any, Any]:
    if isinstance(answer, str):
        return answer, None
    if isinstance(answer, dict) and "text" in answer:
        return answer["text"], answer.get("answer_start")
    raise ValueError(f"found {shown(answer)} among the answers; {NEEDED}")


def _whole(start: Any) -> Any:
    """The number in a CSV cell."""
    if not isinstance(start, str):
        return start
    try:
        return int(start)
    except ValueError as error:
        raise ValueError(
            f"answer_start is {shown(start)}; an integer is expected, the place of the answer's first character "
            "(pandas writes 17.0 if a column has gaps; its type Int64 avoids that)"
        ) from error


def _check(text: Any, start: Any) -> None:
    _check_text(text)
    if start is None:
        raise ValueError(f"found {quoted(text)} among the answers; {NEEDED}")
    if not isinstance(start, int) or isinstance(start, bool) or abs(start) >= 2**31:
        raise ValueError(
            f"answer_start is {shown(start)}; an integer is expected, the place of the answer's first character"
        )


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise ValueError(f"'answer text' is {shown(text)}; text is expected")
