"""Rows as they are in a source -> record batches of canonical questions, or one error that names the row.

Canonical is what `datasets` calls the SQuAD form: id, title, question, context and answers {"text": [...],
"answer_start": [...]}; two empty lists mean "no answer". Text is never changed, and offsets count Python characters.
One column is ours: contradiction, what `is_impossible` says against the answers.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from qa_accel.data.file_rows import ROWS, Row, place
from qa_accel.data.gold_answers import NO_ANSWER, Gold, gold_answers, gold_texts
from qa_accel.data.layouts.known import nearest
from qa_accel.data.settings import Columns
from qa_accel.messages import listed, quoted, shown

VERSION = 3
"""Increase it when the same bytes give other questions; part of every cache file's name."""

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "title": pa.string(),
        "question": pa.string(),
        "context": pa.string_view(),  # equal ones of a batch are stored once, see stored_once
        "answers": pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())}),
        "contradiction": pa.string(),
    }
)
CHARACTERS = 10_000_000
"""Of the distinct contexts of one batch; the last one of them may pass it."""
MOST_ROWS = 20 * ROWS
"""Rows of one batch. Those beyond ROWS have contexts that are in the batch already, and are stored once in it."""
OPTIONAL = ("title", "answers", "contradiction")
"""Columns that a source may lack: null in every row."""


def question_batches(rows: Iterable[Row], columns: Columns) -> Iterator[pa.RecordBatch]:
    """Record batches of SCHEMA. The answers are null in every row or in none."""
    seen: dict[str, tuple[str, int]] = {}
    labelled = unlabelled = None  # place of the first row with answers (or a stated "none"), and of the first without
    held: list[tuple[Row, dict[str, Any]]] = []
    contexts: dict[str, str] = {}  # of the batch; rows of a text share one string of it
    characters = 0
    for row in rows:
        try:
            question = _question(row.values, columns)
        except ValueError as error:
            raise ValueError(f"{_where(row, columns)}: {error}") from error
        _check_new(question["id"], row, seen)
        if question["answers"] is None:
            unlabelled = unlabelled or _where(row, columns)
        else:
            labelled = labelled or place(row)
        if labelled and unlabelled:
            raise ValueError(
                f"{unlabelled} has no {columns.answers!r}, but others have ({labelled}); give empty lists where the "
                "context holds no answer, and keep questions whose answer is not known in a separate file"
            )
        context = question["context"]
        full = len(held) >= ROWS or characters >= CHARACTERS
        if len(held) == MOST_ROWS or (full and context not in contexts):
            yield _batch(held)
            held, contexts, characters = [], {}, 0
        if context not in contexts:
            characters += len(context)
        question["context"] = contexts.setdefault(context, context)
        held.append((row._replace(values={}), question))
    if held:
        yield _batch(held)


def gold_texts_by_id(rows: Iterable[Row], columns: Columns) -> dict[str, list[str]]:
    """What a scorer needs: neither questions, contexts nor offsets."""
    seen: dict[str, tuple[str, int]] = {}
    golds = {}
    for row in rows:
        try:
            key, texts = identifier(row.values, columns), gold_texts(row.values, columns.answers)
        except ValueError as error:
            raise ValueError(f"{_where(row, columns)}: {error}") from error
        _check_new(key, row, seen)
        if texts is None:
            raise ValueError(
                f"{_where(row, columns)} has no {columns.answers!r}, so there is nothing to score against; "
                "give empty lists if the context holds no answer"
            )
        golds[key] = texts
    return golds


def missing_column(found: Collection[str], name: str, flag: str) -> ValueError:
    by_folded = {str(key).casefold(): str(key) for key in found}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    if near:
        remedy = f"name it: --{flag} {by_folded[near[0]]}"
    elif "" in by_folded:
        remedy = f"if it is the one without a name (pandas' index), write its name into the file: {name}"
    else:
        remedy = f"add it, or name the column with --{flag}; {nearest(by_folded.values())}"
    return ValueError(f"no column {name!r}; found {listed(by_folded.values())}; {remedy}")


def _check_new(key: str, row: Row, seen: dict[str, tuple[str, int]]) -> None:
    if key in seen:
        source, number = seen[key]
        raise ValueError(
            f"{place(row)}: id {quoted(key)} is a duplicate of {source}: row {number}; "
            "ids must differ, since predictions are kept by id: rename one or take the row out"
        )
    seen[key] = row.source, row.number


def _where(row: Row, columns: Columns) -> str:
    return place(row) + (f": id {quoted(row.values[columns.id])}" if columns.id in row.values else "")


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
                    raise ValueError(f"{place(row)}: {half_a_pair(text, error)}") from None
        raise


def half_a_pair(text: str, error: UnicodeEncodeError) -> str:
    """What is wrong with a text that has no UTF-8."""
    return (
        f"character {error.start} of {quoted(text)} is half of a surrogate pair, which is not a character; write the whole "
        "pair (\\ud83d\\ude00) or take it out"
    )


def stored_once(texts: Sequence[str]) -> pa.Array:
    """The texts as an Arrow array that holds each distinct one once: hundreds of questions may share a long context."""
    place: dict[str, int] = {}
    text_Q = [place.setdefault(text, len(place)) for text in texts]
    _, views, *data = pa.array(list(place), pa.string_view()).buffers()
    views_P = np.frombuffer(views, "V16", count=len(place))  # a view is 16 bytes: length, and where the text is
    return pa.Array.from_buffers(
        pa.string_view(), len(texts), [None, pa.py_buffer(views_P[text_Q].tobytes()), *data], null_count=0
    )


def question_texts(values: dict[str, Any], columns: Columns) -> tuple[str, str, str]:
    """Id, question and context of a row."""
    key = identifier(values, columns)
    question = cell_text(values, columns.question, "question_column")
    return key, question, cell_text(values, columns.context, "context_column")


def identifier(values: dict[str, Any], columns: Columns) -> str:
    return id_text(_cell(values, columns.id, "id_column"), columns.id)


def id_text(value: Any, name: str) -> str:
    """The text of an id in a column of this name."""
    # Many data sets number their questions; as keys of predictions.json the ids must be text anyway.
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value == "":
        raise ValueError(f"{name!r} is empty; every question needs its own id")
    return _text(name, value)


def cell_text(values: dict[str, Any], name: str, flag: str) -> str:
    """The text in a column, whose name the flag gives."""
    return _text(name, _cell(values, name, flag))


def _question(values: dict[str, Any], columns: Columns) -> dict[str, Any]:
    title = values.get("title")
    key, question, context = question_texts(values, columns)
    gold: Gold = gold_answers(values, columns.answers)
    return {
        "id": key,
        "title": title if isinstance(title, str) else None,
        "question": question,
        "context": context,
        "answers": gold.answers,
        "contradiction": gold.contradiction,
    }


def _cell(values: dict[str, Any], name: str, flag: str) -> Any:
    if name not in values:
        raise missing_column(values, name, flag)
    return values[name]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is {shown(value)}; text is expected")
    return value
