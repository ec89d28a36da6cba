"""Files of a corpus -> pieces that can be read alone: row ranges of Parquet, byte ranges of JSON lines.

The list of pieces follows from the files' sizes and Parquet footers and from the size of a piece, so that every process
finds the same one, and reads no row for it. What cannot be entered in the middle (gzip, CSV, nested JSON) is refused.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet

from qa_accel.data import sources, squad_format
from qa_accel.data.layouts.known import layout_of
from qa_accel.messages import first_line, listed, short

LONGEST_LINE = 2**26
"""Bytes of a line of JSON. A longer one is refused: memory has to hold it."""
CONVERT = "write its questions as Parquet or JSON lines first (docs/scale.md shows how)"


@dataclass(frozen=True)
class CorpusFile:
    path: Path
    kind: Literal["parquet", "jsonl"]
    size: int
    changed: int
    """Time of the last change, in ns since 1970: with path and size what a file is known by. Content is not hashed."""


@dataclass(frozen=True)
class Piece:
    """A range of one file. Parquet: rows, counted from 0. JSON lines: bytes; a line belongs to the piece of its first byte."""

    file: CorpusFile
    number: int
    """Place among the pieces of the file, from 0."""
    begin: int
    end: int
    weight: int
    """About how many bytes of input it is; for shares of the whole."""


def corpus_files(patterns: Sequence[str], setting: str) -> list[CorpusFile]:
    """The files that paths and globs match, each once. Raises ValueError that names the first one that pieces cannot be made of."""
    different: dict[str, Path] = {}
    for path in sources.find_files(patterns, setting):
        different.setdefault(os.path.realpath(path), path)
    return [_corpus_file(path) for path in different.values()]


def pieces(files: Sequence[CorpusFile], columns: dict[str, str], piece_bytes: int) -> list[Piece]:
    """All pieces, in the files' order. `columns`: name of each column that must be there -> the flag that names it.

    A piece is about `piece_bytes` of a file, and one row at least. Raises ValueError that names a file without a column.
    """
    found: list[Piece] = []
    for file in files:
        ranges = _parquet_ranges if file.kind == "parquet" else _line_ranges
        bounds = ranges(file, columns, piece_bytes)
        found += [Piece(file, number, *bound) for number, bound in enumerate(bounds)]
    if not found:
        name = f"{files[0].path} and {len(files) - 1} more" if len(files) > 1 else str(files[0].path)
        raise ValueError(f"{name}: holds no question; at least one is expected")
    return found


def _corpus_file(path: Path) -> CorpusFile:
    try:
        status = path.stat()
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error
    if not head:
        raise ValueError(f"{path}: is empty; Parquet or JSON lines with questions are expected")
    if head.startswith(b"PAR1"):
        return CorpusFile(path, "parquet", status.st_size, status.st_mtime_ns)
    reason = None
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if head.startswith(b"\x1f\x8b"):
        reason = "is gzipped, and nobody can begin in its middle: unpack it"
    elif start == b"[":
        reason = f"is one JSON list: {CONVERT}"
    elif start != b"{":
        reason = f"begins with {head[:12]!r}, which is neither Parquet nor JSON lines: {CONVERT}"
    if reason is not None:
        raise ValueError(f"{path}: {reason}; --shard_output reads Parquet and JSON lines, in pieces")
    return CorpusFile(path, "jsonl", status.st_size, status.st_mtime_ns)


def _parquet_ranges(file: CorpusFile, columns: dict[str, str], piece_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Small row groups together, large ones in equal parts."""
    try:
        footer = pyarrow.parquet.read_metadata(file.path)
        schema = footer.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(
            f"{file.path}: broken or cut off, its footer cannot be read ({first_line(error)}); download or rewrite the file"
        ) from error
    if footer.num_rows:
        _check_columns(file.path, schema.names, columns)
    held_rows = held_bytes = done = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        rows, size = group.num_rows, group.total_byte_size
        if held_rows and held_bytes + size > piece_bytes:
            yield done, done + held_rows, held_bytes
            done, held_rows, held_bytes = done + held_rows, 0, 0
        if size <= piece_bytes:
            held_rows, held_bytes = held_rows + rows, held_bytes + size
            continue
        parts = min(rows, -(-size // piece_bytes))
        for part in range(parts):
            yield done + rows * part // parts, done + rows * (part + 1) // parts, size // parts
        done += rows
    if held_rows:
        yield done, done + held_rows, held_bytes


def _line_ranges(file: CorpusFile, columns: dict[str, str], piece_bytes: int) -> Iterator[tuple[int, int, int]]:
    with file.path.open("rb") as opened:
        line = opened.readline(LONGEST_LINE).removeprefix(b"\xef\xbb\xbf")
        while line and not line.strip():
            line = opened.readline(LONGEST_LINE)
    try:
        first = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file.path}: its first line is no JSON object ({first_line(error)}): broken JSON lines, or one JSON value over "
            f"several lines; {CONVERT}"
        ) from error
    if layout_of(first) or any(isinstance(first.get(key), list) for key in ("data", "questions")):
        raise ValueError(f"{file.path}: is nested JSON with the keys {listed(first)}; {CONVERT}")
    _check_columns(file.path, list(first), columns)
    parts = -(-file.size // piece_bytes)
    for part in range(parts):
        begin, end = file.size * part // parts, file.size * (part + 1) // parts
        yield begin, end, end - begin


def _check_columns(path: Path, found: Sequence[str], columns: dict[str, str]) -> None:
    for name, flag in columns.items():
        if name not in found:
            raise ValueError(f"{path}: {squad_format.missing_column(found, name, flag)}")


def is_below(path: Path, folder: Path) -> bool:
    """Whether a file is in this folder, by any name of it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def described(files: Sequence[CorpusFile]) -> str:
    """For the console."""
    size = sum(file.size for file in files)
    name = short(str(files[0].path))
    return f"{len(files):,} files, {size / 1e9:,.2f} GB" if len(files) > 1 else f"{name}, {size / 1e9:,.2f} GB"
