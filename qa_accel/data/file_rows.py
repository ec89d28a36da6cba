"""One file -> its rows as they are there: plain dicts, each with a place that an error can name.

A file is known by its content, not by its name: gzip, Parquet and JSON by their first characters, and CSV by its suffix,
since CSV has no magic bytes.

JSON and CSV are read by Python's own modules, not by `datasets`: its readers guess types from the values, so that an
answer "2008-01-01" becomes a time and a question "NA" a missing value, and text must not change.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

from qa_accel.data.csv_rows import SUFFIXES, csv_rows
from qa_accel.data.json_stream import JsonStream
from qa_accel.data.layouts.known import element_rows, layout_of
from qa_accel.data.layouts.layout import File
from qa_accel.messages import first_line

PIECE = 2**20  # bytes per read
ROWS = 1000  # rows in memory at once; also the row group of `datasets`' own Arrow files


class Row(NamedTuple):
    source: str
    """The file's path, or the dataset's name."""
    number: int
    """Place in the source, counted from 1; a CSV header does not count."""
    note: str
    """The article and paragraph in a nested file, else empty."""
    values: dict[str, Any]


def place(row: Row) -> str:
    return f"{row.source}: row {row.number}" + (f" ({row.note})" if row.note else "")


def file_rows(path: Path, split: str | None = None) -> Iterator[Row]:
    """Rows of one JSON, JSONL, CSV or Parquet file. split: which one is read, for layouts that have several in a file."""
    file = File(path, split)
    numbered = enumerate(_noted_rows(file), start=1)
    try:
        for number, (note, values) in numbered:
            yield Row(str(path), number, note, values)
    except UnicodeDecodeError as error:
        bad = error.object[error.start : error.start + 1]
        raise ValueError(f"{path}: is not UTF-8 ({error.reason} {bad!r}); save it as UTF-8") from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise ValueError(
            f"{path}: broken or cannot be read ({first_line(error)}); download or rewrite the file"
        ) from error
    file.warn()


def reading_of(path: Path, split: str | None) -> tuple[str, ...]:
    """What decides beside the bytes about a file's rows: its layout's version, and the split if it holds several.

    Empty for most files. Known by the first element; a file that cannot be read has none, and `file_rows` says why.
    """
    try:
        with _opened(path) as opened:
            text = io.TextIOWrapper(opened, encoding="utf-8-sig", newline="")
            stream = JsonStream(text, path)
            layout = layout_of(next(stream.elements(), None)) if stream.peek() in ("{", "[") else None
    except (OSError, EOFError, zlib.error, ValueError):
        return ()
    if layout is None or not (layout.version or layout.by_split):
        return ()
    return layout.name, str(layout.version), *((split,) if split and layout.by_split else ())


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if gzipped else path.open("rb")  # type: ignore[return-value]


def _noted_rows(reading: File) -> Iterator[tuple[str, dict[str, Any]]]:
    path = reading.path
    with _opened(path) as file:
        head = file.read(PIECE)
        file.seek(0)
        if not head:
            raise ValueError(f"{path}: is empty; a JSON, JSONL, CSV or Parquet file with questions is expected")
        # Files from Windows may begin with a byte order mark, which is not part of the text.
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        if head.startswith(b"PAR1"):
            if isinstance(file, gzip.GzipFile):
                raise ValueError(f"{path}: Parquet inside gzip; unpack it (Parquet compresses its own columns)")
            yield from _parquet_rows(path)
        elif head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
            for position, element in enumerate(JsonStream(text, path).elements(), start=1):
                yield from element_rows(element, position, reading)
        elif any(suffix.lower() in SUFFIXES for suffix in path.suffixes):
            for values in csv_rows(text, path):
                yield "", values
        else:
            raise ValueError(
                f"{path}: begins with {head[:12]!r}, which is neither JSON, JSONL nor Parquet; "
                "text must be UTF-8, a CSV file's name must end in .csv or .tsv (.gz allowed), and other formats are "
                "not read"
            )


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS):
            for values in batch.to_pylist():
                yield "", values
