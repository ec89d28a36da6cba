"""One Arrow file that holds windows: written from datasets.map's result, read without a copy.

One record batch of W rows holds everything, so that each column is contiguous in the file and numpy reads it through a
memory map: processes of one machine share it, and nothing is read before it is used.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value
from datasets import List as ListOf

from qa_accel.data import cache_file
from qa_accel.data.laid_out import MappedColumns, lay_out
from qa_accel.data.settings import LabelledAnswers
from qa_accel.data.window_assembly import offsets_of, ranges
from qa_accel.data.windows import Windows

TOKEN_COLUMNS = {"input_ids": "int32", "token_type_ids": "uint8", "offset_start": "int32", "offset_end": "int32"}
WINDOW_COLUMNS = ("question", "context_begin", "context_end", "null", "start", "end")  # int32
GOLD_COLUMNS = ("gold_start", "gold_end")  # lists of int32, if all gold answers are labels
LEFT_OUT = "left_out"  # uint8, if only first ones are


def table_of(windows: Windows, first_question: int) -> pa.Table:
    """Windows of one batch as rows, their questions counted from first_question on."""
    offsets = pa.array(windows.begin_W.astype(np.int32))
    columns: dict[str, pa.Array] = {}
    for name in TOKEN_COLUMNS:
        values_N = getattr(windows, f"{name}_N")
        if values_N is not None:
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(values_N)))
    columns |= {name: pa.array(getattr(windows, f"{name}_W")) for name in WINDOW_COLUMNS}
    columns["question"] = pa.array(windows.question_W + np.int32(first_question))
    columns["question_cut"] = pa.array(windows.question_cut_Q[windows.question_W].astype(np.uint8))
    columns["question_tokens"] = pa.array(windows.question_tokens_Q[windows.question_W])
    if windows.gold_begin_W is not None:
        begin_W = pa.array(windows.gold_begin_W.astype(np.int32))
        for name in GOLD_COLUMNS:
            columns[name] = pa.ListArray.from_arrays(begin_W, pa.array(getattr(windows, f"{name}_G")))
    if windows.left_out_W is not None:
        columns[LEFT_OUT] = pa.array(windows.left_out_W.astype(np.uint8))
    return pa.table(columns)


def features(gives_types: bool, labelled: LabelledAnswers) -> Features:
    """Schema of table_of's result, as `datasets` describes it."""
    tokens = {
        name: ListOf(Value(kind)) for name, kind in TOKEN_COLUMNS.items() if gives_types or name != "token_type_ids"
    }
    labels: dict[str, Any] = {}
    if labelled == "all":
        labels = {name: ListOf(Value("int32")) for name in GOLD_COLUMNS}
    elif labelled == "first":
        labels = {LEFT_OUT: Value("uint8")}
    per_window = {name: Value("int32") for name in WINDOW_COLUMNS}
    per_question = {"question_cut": Value("uint8"), "question_tokens": Value("int32")}
    return Features(tokens | per_window | per_question | labels)


def write_in_question_order(made: Dataset, row_of_place: np.ndarray, path: Path) -> None:
    """One record batch of all windows: the file is laid out with zeros, then filled part after part through a memory map,
    so that memory does not grow with the data."""
    table = made.data
    question_W = row_of_place[table["question"].to_numpy()]
    window_W = np.argsort(question_W, kind="stable")  # where the windows come from; a question's stay in their order
    begin_W = offsets_of(lengths(made)[window_W])
    columns = {}
    for name in made.column_names:
        if name in TOKEN_COLUMNS:
            values = pa.array(np.zeros(begin_W[-1], TOKEN_COLUMNS[name]))
            columns[name] = pa.LargeListArray.from_arrays(pa.array(begin_W), values)
        elif name == "question":
            columns[name] = pa.array(question_W[window_W].astype(np.int32))
        elif name in GOLD_COLUMNS:  # few, since most windows have no answer or one
            columns[name] = table[name].combine_chunks().take(pa.array(window_W))
        else:
            columns[name] = pa.array(table[name].to_numpy()[window_W])
    names = [name for name in made.column_names if name in TOKEN_COLUMNS]
    file = MappedColumns(path, lay_out(path, pa.record_batch(columns), names))
    place_W = np.empty_like(window_W)
    place_W[window_W] = np.arange(len(window_W))

    done = 0
    for part in _parts(made):
        place = place_W[done : done + len(part)]
        done += len(part)
        if (np.diff(place) == 1).all():  # the usual case: the part stays in one piece
            token_N = slice(begin_W[place[0]], begin_W[place[-1] + 1])
        else:
            token_N = ranges(begin_W[place], begin_W[place + 1] - begin_W[place])
        for name, all_values in file.columns.items():
            all_values[token_N] = part[name].flatten().to_numpy()
        file.forget_pages()
    assert done == len(window_W), "every window was written"
    file.flush()


def lengths(made: Dataset) -> np.ndarray:
    """Tokens of each window."""
    parts = [part.value_lengths().to_numpy() for part in made.data["input_ids"].chunks]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _parts(made: Dataset) -> Iterator[pa.RecordBatch]:
    """Record batches in order; read, not mapped, so that only one is in memory."""
    for file in made.cache_files:
        with pa.OSFile(file["filename"]) as source, pa.ipc.open_stream(source) as reader:
            yield from reader


def read(path: Path) -> Windows:
    try:
        batch = pa.ipc.open_file(cache_file.content(path)).get_batch(0)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and it will be computed again") from error
    tokens = {
        f"{name}_N": batch[name].values.to_numpy() if name in batch.schema.names else None for name in TOKEN_COLUMNS
    }
    per_window = {f"{name}_W": batch[name].to_numpy() for name in WINDOW_COLUMNS}
    question_W = per_window["question_W"]
    questions = 1 + question_W[-1] if len(question_W) else 0  # every question has a window
    cut_Q, tokens_Q = np.zeros(questions, bool), np.zeros(questions, np.int32)
    cut_Q[question_W] = batch["question_cut"].to_numpy()
    tokens_Q[question_W] = batch["question_tokens"].to_numpy()
    labels = {}
    if GOLD_COLUMNS[0] in batch.schema.names:
        labels = {f"{name}_G": batch[name].values.to_numpy() for name in GOLD_COLUMNS}
        labels["gold_begin_W"] = batch[GOLD_COLUMNS[0]].offsets.to_numpy().astype(np.int64)
    if LEFT_OUT in batch.schema.names:
        labels["left_out_W"] = batch[LEFT_OUT].to_numpy().astype(bool)
    begin_W = batch["input_ids"].offsets.to_numpy()
    return Windows(**tokens, **per_window, **labels, begin_W=begin_W, question_cut_Q=cut_Q, question_tokens_Q=tokens_Q)
