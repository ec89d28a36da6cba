"""Rows as they are in a source -> record batches of canonical questions, or one error that names the row.

Canonical is what `datasets` calls the SQuAD form: id, title, question, context and answers {"text": [...],
"answer_start": [...]}; two empty lists mean "no answer". Text is never changed, and offsets count Python characters.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from qa_accel.data.sources import ROWS, Row, place, shown

VERSION = 2
"""Increase it when the same bytes give other questions; part of every cache file's name."""

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "title": pa.string(),
        "question": pa.string(),
        "context": pa.string_view(),  # equal ones of a batch are stored once, see stored_once
        "answers": pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())}),
    }
)
Answers = dict[str, list[Any]]
NO_ANSWER: Answers = {"text": [], "answer_start": []}


class Columns(NamedTuple):
    """Names of a source's columns."""

    id: str = "id"
    question: str = "question"
    context: str = "context"
    answers: str = "answers"


def question_batches(rows: Iterable[Row], columns: Columns) -> Iterator[pa.RecordBatch]:
    """Record batches of SCHEMA. The answers are null in every row or in none."""
    seen: dict[str, tuple[str, int]] = {}
    labelled = unlabelled = None  # place of the first row with answers (or a stated "none"), and of the first without
    held: list[tuple[Row, dict[str, Any]]] = []
    for row in rows:
        try:
            question = _question(row.values, columns)
        except ValueError as error:
            raise ValueError(f"{_where(row, columns)}: {error}") from error
        identifier = question["id"]
        if identifier in seen:
            source, number = seen[identifier]
            raise ValueError(
                f"{place(row)}: id {identifier!r} is a duplicate of {source}: row {number}; "
                "ids must differ, since predictions are kept by id: rename one or take the row out"
            )
        seen[identifier] = row.source, row.number
        if question["answers"] is None:
            unlabelled = unlabelled or _where(row, columns)
        else:
            labelled = labelled or place(row)
        if labelled and unlabelled:
            raise ValueError(
                f"{unlabelled} has no {columns.answers!r}, but others have ({labelled}); give empty lists where the "
                "context holds no answer, and keep questions whose answer is not known in a separate file"
            )
        held.append((row, question))
        if len(held) == ROWS:
            yield _batch(held)
            held = []
    if held:
        yield _batch(held)


def missing_column(found: Iterable[str], name: str, flag: str) -> ValueError:
    by_folded = {str(key).casefold(): str(key) for key in found}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    remedy = f"name it: --{flag} {by_folded[near[0]]}" if near else f"add it, or name the column with --{flag}"
    return ValueError(f"no column {name!r}; found {', '.join(by_folded.values()) or 'none'}; {remedy}")


def _where(row: Row, columns: Columns) -> str:
    return place(row) + (f": id {row.values[columns.id]!r}" if columns.id in row.values else "")


def _batch(held: list[tuple[Row, dict[str, Any]]]) -> pa.RecordBatch:
    try:
        columns = {
            name: pa.array([question[name] for _, question in held], SCHEMA.field(name).type)
            for name in SCHEMA.names
            if name != "context"
        }
        columns["context"] = stored_once([question["context"] for _, question in held])
        return pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    except UnicodeEncodeError:
        for row, question in held:
            texts = [question["question"], question["context"], question["id"], question["title"] or ""]
            texts += (question["answers"] or NO_ANSWER)["text"]
            for text in texts:
                try:
                    text.encode()
                except UnicodeEncodeError as error:
                    raise ValueError(
                        f"{place(row)}: character {error.start} of {text[:40]!r} is half of a surrogate pair, which is "
                        "not a character; write the whole pair (\\ud83d\\ude00) or take it out"
                    ) from None
        raise


def stored_once(texts: Sequence[str]) -> pa.Array:
    """The texts as an Arrow array that holds each distinct one once: hundreds of questions may share a long context."""
    place: dict[str, int] = {}
    text_Q = [place.setdefault(text, len(place)) for text in texts]
    _, views, *data = pa.array(list(place), pa.string_view()).buffers()
    views_P = np.frombuffer(views, "V16", count=len(place))  # a view is 16 bytes: length, and where the text is
    return pa.Array.from_buffers(
        pa.string_view(), len(texts), [None, pa.py_buffer(views_P[text_Q].tobytes()), *data], null_count=0
    )


def _question(values: dict[str, Any], columns: Columns) -> dict[str, Any]:
    identifier = _cell(values, columns.id, "id_column")
    # Many data sets number their questions; as keys of predictions.json the ids must be text anyway.
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if identifier == "":
        raise ValueError(f"{columns.id!r} is empty; every question needs its own id")
    title = values.get("title")
    return {
        "id": _text(columns.id, identifier),
        "title": title if isinstance(title, str) else None,
        "question": _text(columns.question, _cell(values, columns.question, "question_column")),
        "context": _text(columns.context, _cell(values, columns.context, "context_column")),
        "answers": _answers(values, columns.answers),
    }


def _cell(values: dict[str, Any], name: str, flag: str) -> Any:
    if name not in values:
        raise missing_column(values, name, flag)
    return values[name]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is {shown(value)}; text is expected")
    return value


def _answers(values: dict[str, Any], name: str) -> Answers | None:
    """Two lists; None if the row has no information about answers."""
    answers = values.get(name)
    if name not in values and ("answer_text" in values or "answer_start" in values):
        answers = _single_answer(values)
    if isinstance(answers, str):
        try:
            answers = json.loads(answers)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{name!r} is {shown(answers)}, which is not JSON ({error.msg}); "
                'write {"text": ["Paris"], "answer_start": [17]}, or the columns answer_text and answer_start'
            ) from error
    impossible = values.get("is_impossible") is True
    if answers is None:
        return NO_ANSWER if impossible else None
    if isinstance(answers, list):
        for answer in answers:
            if not (isinstance(answer, dict) and "text" in answer and "answer_start" in answer):
                raise ValueError(f"found {shown(answer)} among the answers; each needs text and answer_start")
        texts, starts = [answer["text"] for answer in answers], [answer["answer_start"] for answer in answers]
    elif (
        isinstance(answers, dict)
        and isinstance(answers.get("text"), list)
        and isinstance(answers.get("answer_start"), list)
    ):
        texts, starts = answers["text"], answers["answer_start"]
    else:
        raise ValueError(
            f"{name!r} is {shown(answers)}; "
            'expected {"text": [...], "answer_start": [...]} or [{"text": ..., "answer_start": ...}, ...]'
        )
    if len(texts) != len(starts):
        raise ValueError(f"{len(texts)} answer texts but {len(starts)} answer_start; each text needs its offset")
    for text in texts:
        _text("answer text", text)
    for start in starts:
        if not isinstance(start, int) or isinstance(start, bool) or abs(start) >= 2**31:
            raise ValueError(
                f"answer_start is {shown(start)}; an integer is expected, the place of the answer's first character"
            )
    if impossible and texts:
        raise ValueError(f"is_impossible is true, but the answer {texts[0]!r} is given; take out one of the two")
    return {"text": texts, "answer_start": starts}


def _single_answer(values: dict[str, Any]) -> Answers:
    """One answer from the columns answer_text and answer_start, both empty for no answer."""
    text, start = (_cell(values, name, "answers_column") for name in ("answer_text", "answer_start"))
    if text in ("", None) and start in ("", None):
        return NO_ANSWER
    if isinstance(start, str):
        try:
            start = int(start)
        except ValueError as error:
            raise ValueError(
                f"answer_start is {start!r}; an integer is expected, the place of the answer's first character "
                "(pandas writes 17.0 if a column has gaps; its type Int64 avoids that)"
            ) from error
    return {"text": [text], "answer_start": [start]}
