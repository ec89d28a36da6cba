"""A piece of a corpus -> its questions, checked row by row, in chunks that bound the memory of what follows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from qa_accel.data import squad_format
from qa_accel.data.corpus_pieces import LONGEST_LINE, CorpusFile, Piece
from qa_accel.data.settings import Columns
from qa_accel.input_files import parse_json
from qa_accel.messages import first_line, quoted, shown

CHUNK_QUESTIONS = 2048
CHUNK_CHARACTERS = 4_000_000
"""Of contexts, a shared one counted each time: windows are per question."""
CONTEXT_ID = "context_id"
"""Column of the passage's id, or of a list of them, where contexts are in a passage table."""
ROWS, ROWS_BYTES = 256, 2**22  # of Parquet, that are Python objects at once

Passages = Callable[[list[str]], list[str | None]]
"""Ids of passages -> their texts; None for an id that is not there."""


@dataclass
class Chunk:
    """Pairs of a question and a context. Lists of one length."""

    ids: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    contexts: list[str] = field(default_factory=list)
    context_ids: list[str] = field(default_factory=list)
    """Empty without a passage table."""
    places: list[int] = field(default_factory=list)
    """Row from 1 in Parquet, first byte of the line in JSON lines."""
    characters: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_full(self) -> bool:
        return len(self) >= CHUNK_QUESTIONS or self.characters >= CHUNK_CHARACTERS


def chunks(piece: Piece, columns: Columns, passages: Passages | None = None) -> Iterator[Chunk]:
    """The piece's questions in order. Gold answers are not looked at.

    Raises ValueError with file and row, or byte, for what cannot be read or is no question.
    """
    chunk = Chunk()
    wanted = [columns.id, columns.question, CONTEXT_ID if passages else columns.context]
    for place, values in rows(piece, wanted):
        try:
            if passages is None:
                identifier, question, context = squad_format.question_texts(values, columns)
                pairs = [("", context)]
            else:
                identifier = squad_format.identifier(values, columns)
                question = squad_format.cell_text(values, columns.question, "question_column")
                pairs = _with_passages(values, passages)
            _check_characters([identifier, question, *(context for _, context in pairs)])
        except ValueError as error:
            row_id = f": id {quoted(values[columns.id])}" if columns.id in values else ""
            raise ValueError(f"{place_text(piece.file, place)}{row_id}: {error}") from error
        for context_id, context in pairs:
            chunk.ids.append(identifier)
            chunk.questions.append(question)
            chunk.contexts.append(context)
            chunk.places.append(place)
            if passages is not None:
                chunk.context_ids.append(context_id)
            chunk.characters += len(context) + len(question)
            if chunk.is_full:
                yield chunk
                chunk = Chunk()
    if len(chunk):
        yield chunk


def place_text(file: CorpusFile, place: int) -> str:
    return f"{file.path}: row {place:,}" if file.kind == "parquet" else f"{file.path}: line at byte {place:,}"


def rows(piece: Piece, wanted: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Place and values of each row; of Parquet only the wanted columns."""
    yield from (_parquet_rows(piece, wanted) if piece.file.kind == "parquet" else _lines(piece))


def _parquet_rows(piece: Piece, wanted: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    path, place = piece.file.path, piece.begin
    try:
        # buffered: else a whole row group's columns are read at once
        with pyarrow.parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            groups, place = _row_groups(file.metadata, piece)
            columns = [name for name in wanted if name in file.schema_arrow.names]
            size = _rows_at_once(file.metadata, groups)
            for batch in file.iter_batches(batch_size=size, row_groups=groups, columns=columns, use_threads=False):
                if place + len(batch) > piece.begin:
                    for row, values in enumerate(batch.to_pylist(), start=place):
                        if piece.begin <= row < piece.end:
                            yield row + 1, values
                place += len(batch)
                if place >= piece.end:
                    return
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: broken after row {place:,} ({first_line(error)}); download or rewrite the file"
        ) from error


def _row_groups(footer: pyarrow.parquet.FileMetaData, piece: Piece) -> tuple[list[int], int]:
    """The row groups that hold the piece's rows, and the first row of the first one."""
    groups, first, done = [], 0, 0
    for number in range(footer.num_row_groups):
        rows_of_group = footer.row_group(number).num_rows
        if rows_of_group and done < piece.end and done + rows_of_group > piece.begin:
            first = first if groups else done
            groups.append(number)
        done += rows_of_group
    return groups, first


def _rows_at_once(footer: pyarrow.parquet.FileMetaData, groups: list[int]) -> int:
    """Fewer where rows are long: documents of some MB each would be a GB."""
    longest = max(footer.row_group(number).total_byte_size / footer.row_group(number).num_rows for number in groups)
    return max(1, min(ROWS, int(ROWS_BYTES / max(1.0, longest))))


def _lines(piece: Piece) -> Iterator[tuple[int, dict[str, Any]]]:
    path = piece.file.path
    try:
        with path.open("rb") as file:
            if piece.begin:
                file.seek(piece.begin - 1)
                while (line := file.readline(LONGEST_LINE)) and not line.endswith(b"\n"):
                    pass  # the rest of a line that began before
            while (place := file.tell()) < piece.end and (line := file.readline(LONGEST_LINE + 1)):
                if len(line) > LONGEST_LINE:
                    raise ValueError(
                        f"{place_text(piece.file, place)}: is longer than {LONGEST_LINE:,} bytes; split its context"
                    )
                values = _object(line if place else line.removeprefix(b"\xef\xbb\xbf"), piece.file, place)
                if values is not None:
                    yield place, values
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error


def _object(line: bytes, file: CorpusFile, place: int) -> dict[str, Any] | None:
    """A line's values, None of a blank line."""
    try:
        text = line.decode()
        values = parse_json(text) if text.strip() else None
    except ValueError as error:
        kind = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else "broken JSON"
        raise ValueError(
            f"{place_text(file, place)}: {kind} ({first_line(error)}); a line must be one JSON object: correct it, or download "
            "the file again"
        ) from error
    if values is not None and not isinstance(values, dict):
        raise ValueError(f"{place_text(file, place)}: is {shown(values)}; an object with columns is expected")
    return values


def _with_passages(values: dict[str, Any], passages: Passages) -> list[tuple[str, str]]:
    """Id and text of each passage that the question names."""
    named = values.get(CONTEXT_ID)
    found = named if isinstance(named, list) else [named]
    if not found:
        raise ValueError(f"{CONTEXT_ID!r} is an empty list; the id of a passage, or a list of ids, is expected")
    keys = [squad_format.id_text(value, CONTEXT_ID) for value in found]
    texts = passages(keys)
    for key, text in zip(keys, texts):
        if text is None:
            raise ValueError(f"{CONTEXT_ID} {quoted(key)} is in no file of --passages_file")
    return [(key, text) for key, text in zip(keys, texts) if text is not None]


def _check_characters(texts: list[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(squad_format.half_a_pair(text, error)) from None
