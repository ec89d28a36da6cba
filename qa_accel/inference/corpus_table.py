"""Answers to a chunk of questions -> rows of a Parquet piece; and a piece on the disk -> its counts, or what is wrong with it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from qa_accel import files
from qa_accel.data.corpus_rows import Chunk
from qa_accel.inference.postprocess import Answers, NBestEntry
from qa_accel.messages import first_line

COUNTS = ("questions", "windows", "answered")
"""Kept in each piece: rows, windows that the model computed, rows whose answer is not empty."""
_KEY = b"qa_accel"

ENTRY = pa.struct(
    [
        ("text", pa.string()),
        ("probability", pa.float64()),
        ("score", pa.float64()),
        ("start_logit", pa.float32()),
        ("end_logit", pa.float32()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("confidence", pa.float64()),
    ]
)


def schema(*, nbest: bool) -> pa.Schema:
    """Columns of a piece."""
    columns = [
        ("id", pa.string()),
        ("context_id", pa.string()),  # null without a passage table
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("place", pa.int64()),  # row from 1 in Parquet, first byte of the line in JSON lines
        ("answer", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("score", pa.float64()),
        ("confidence", pa.float64()),  # null without a calibration
        ("null_odds", pa.float64()),
    ]
    return pa.schema(columns + ([("nbest", pa.list_(ENTRY))] if nbest else []))


def table_of(
    chunk: Chunk, keys: list[str], file: str, answers: Answers, min_confidence: float | None, *, nbest: bool
) -> pa.Table:
    """A row per pair of a question and a context, in the chunk's order. `keys`: by which `answers` has them.

    `context[start:end] == answer`. Score and confidence are those of the answer before `min_confidence` withholds it.
    """
    if nbest:
        answers = replace(answers, nbest=dict(answers.nbest))  # read twice: lists are made when they are read
    rows = [_row(answers, key, min_confidence) for key in keys]
    columns: dict[str, Any] = {
        "id": chunk.ids,
        "context_id": chunk.context_ids or [None] * len(chunk),
        "file": pa.DictionaryArray.from_arrays(pa.array([0] * len(chunk), pa.int32()), pa.array([file], pa.string())),
        "place": chunk.places,
        "confidence": [answers.confidences.get(key) for key in keys],
        "null_odds": [answers.null_odds[key] for key in keys],
        **{name: [row[name] for row in rows] for name in ("answer", "start", "end", "score")},
    }
    if nbest:
        columns["nbest"] = [answers.nbest[key] for key in keys]
    return pa.Table.from_pydict(columns, schema=schema(nbest=nbest))


def _row(answers: Answers, key: str, min_confidence: float | None) -> dict[str, Any]:
    entry = chosen(answers, key)
    withheld = min_confidence is not None and answers.confidences[key] < min_confidence
    start, end = (0, 0) if withheld else (entry["start"], entry["end"])
    return {"answer": "" if withheld else entry["text"], "start": start, "end": end, "score": entry["score"]}


def chosen(answers: Answers, key: str) -> NBestEntry:
    """The entry of the n-best list that is the prediction."""
    is_empty = answers.predictions[key] == ""
    return next(entry for entry in answers.nbest[key] if (entry["text"] == "") == is_empty)


class PieceWriter:
    """A piece that appears under its name when the block of `writing` ends."""

    def __init__(self, writer: pq.ParquetWriter):
        self._writer = writer
        self.counts = dict.fromkeys(COUNTS, 0)

    def add(self, table: pa.Table, windows: int) -> None:
        self._writer.write_table(table)
        answered = sum(map(bool, table["answer"].to_pylist()))
        for name, count in zip(COUNTS, (len(table), windows, answered), strict=True):
            self.counts[name] += count


@contextmanager
def writing(path: Path, *, nbest: bool, tag: str = "") -> Iterator[PieceWriter]:
    """Nothing that differs from start to start is in the file: the same answers are the same bytes.

    `tag`: in the name of the partial file.
    """
    with (
        files.replacing(path, tag=tag) as partial,
        # a checksum per page: a damaged piece is noticed when it is read
        pq.ParquetWriter(partial, schema(nbest=nbest), compression="zstd", write_page_checksum=True) as writer,
    ):
        piece = PieceWriter(writer)
        yield piece
        writer.add_key_value_metadata({_KEY: json.dumps(piece.counts).encode()})


def counts_of(path: Path) -> dict[str, int]:
    """Read from the footer alone. Raises ValueError for a file that is no whole piece."""
    try:
        metadata = pq.read_metadata(path)
        counts = json.loads((metadata.metadata or {}).get(_KEY, b"{}"))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ValueError(f"{path}: is damaged ({first_line(error)}); delete it, and it is computed again") from error
    if counts.keys() != set(COUNTS) or counts["questions"] != metadata.num_rows:
        raise ValueError(f"{path}: is damaged (no counts of ours in its footer); delete it, and it is computed again")
    return counts


def damage_of(path: Path) -> str | None:
    """What is wrong with a piece, or None: every page is read and compared with its checksum."""
    try:
        counts_of(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for _ in file.iter_batches(use_threads=False):
                pass
    except (OSError, pa.ArrowException, ValueError) as error:
        return first_line(error)
    return None
