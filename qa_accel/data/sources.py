"""Files, a saved folder or a hub name -> rows as they are there: plain dicts, each with a place that an error can name.

A file is known by its content, not by its name: gzip, Parquet and JSON by their first characters, and CSV by its suffix,
since CSV has no magic bytes. Nested SQuAD is known by the "paragraphs" of its elements.

JSON and CSV are read by Python's own modules, not by `datasets`: its readers guess types from the values, so that an
answer "2008-01-01" becomes a time and a question "NA" a missing value, and text must not change.
"""

import csv
import glob
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet

from qa_accel.data.json_stream import JsonStream

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


@dataclass(frozen=True)
class Source:
    """Files, or one split of a data set."""

    name: str
    hashes: tuple[str, ...]
    """Hash of each file's bytes, in order; independent of paths and times."""
    files: tuple[Path, ...] = ()
    dataset: datasets.Dataset | None = None

    def rows(self) -> Iterator[Row]:
        if self.dataset is not None:
            return dataset_rows(self.dataset, self.name)
        return chain.from_iterable(file_rows(file) for file in self.files)


def file_source(patterns: Sequence[str], setting: str) -> Source:
    files = find_files(patterns, setting)
    name = f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else str(files[0])
    return Source(name, tuple(map(content_hash, files)), files=tuple(files))


def dataset_source(name: str, config_name: str | None, split: str, cache_dir: str | None) -> Source:
    """A split of a hub data set, or of a folder that `save_to_disk` wrote."""
    splits = dataset_splits(name, config_name, cache_dir)
    if split not in splits:
        raise ValueError(
            f"--dataset_name {name}: has no split {split!r}; it has {', '.join(splits)}; "
            f"save a DatasetDict that has it, or give files (--{split}_file) in place of the data set"
        )
    dataset = splits[split]
    hashes = tuple(content_hash(Path(file["filename"])) for file in dataset.cache_files)
    assert hashes, "a data set that is kept on disk has files, and their bytes name it"
    return Source(f"{name} ({split})", hashes, dataset=dataset)


def dataset_splits(name: str, config_name: str | None, cache_dir: str | None) -> dict[str, datasets.Dataset]:
    folder = Path(name).expanduser()
    saved = any((folder / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            loaded = datasets.load_from_disk(str(folder), keep_in_memory=False)
        else:
            loaded = datasets.load_dataset(name, config_name, cache_dir=cache_dir, keep_in_memory=False)
    except Exception as error:  # hub, HTTP and format libraries each raise their own kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        remedy = "no folder of save_to_disk has this name, so it was looked up on the hub and in its local cache: check the name, "
        remedy += "or give --train_file and --validation_file, which need no network"
        raise ValueError(
            f"--dataset_name {name}: cannot be loaded ({reason}); {'save the folder again' if saved else remedy}"
        ) from error
    if isinstance(loaded, datasets.Dataset):
        # A dataset without a split name may be trained on or answered, not evaluated on: these are the same questions.
        names = [str(loaded.split)] if loaded.split is not None else ["train", "test"]
        return dict.fromkeys(names, loaded)
    return {str(key): split for key, split in loaded.items() if isinstance(split, datasets.Dataset)}


def place(row: Row) -> str:
    return f"{row.source}: row {row.number}" + (f" ({row.note})" if row.note else "")


def find_files(patterns: Sequence[str], setting: str) -> list[Path]:
    """The files that paths and globs match, each glob sorted by name."""
    files: list[Path] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            raise ValueError(
                f"--{setting} {pattern}: is a folder; name files or a glob such as {pattern.rstrip('/')}/*.json"
            )
        if path.exists():
            files.append(path)
            continue
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        if not found:
            reason = "the glob matches no file" if glob.has_magic(pattern) else "there is no such file"
            raise ValueError(f"--{setting} {pattern}: {reason} (looked from {Path.cwd()})")
        files += found
    return files


def content_hash(path: Path) -> str:
    """Hash of a file's bytes, independent of its path and times."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error
    return digest.hexdigest()


def file_rows(path: Path) -> Iterator[Row]:
    """Rows of one JSON, JSONL, CSV or Parquet file, as they are there."""
    numbered = enumerate(_noted_rows(path), start=1)
    try:
        for number, (note, values) in numbered:
            yield Row(str(path), number, note, values)
    except UnicodeDecodeError as error:
        bad = error.object[error.start : error.start + 1]
        raise ValueError(f"{path}: is not UTF-8 ({error.reason} {bad!r}); save it as UTF-8") from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise ValueError(f"{path}: broken or cannot be read ({error}); download or rewrite the file") from error


def dataset_rows(dataset: datasets.Dataset, name: str) -> Iterator[Row]:
    number = 0
    for table in dataset.with_format("arrow").iter(ROWS):
        for values in table.to_pylist():  # type: ignore[union-attr]
            number += 1
            yield Row(name, number, "", values)


def _noted_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if gzipped else path.open("rb") as file:
        head = file.read(PIECE)
        file.seek(0)
        if not head:
            raise ValueError(f"{path}: is empty; a JSON, JSONL, CSV or Parquet file with questions is expected")
        # Files from Windows may begin with a byte order mark, which is not part of the text.
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        if head.startswith(b"PAR1"):
            if gzipped:
                raise ValueError(f"{path}: Parquet inside gzip; unpack it (Parquet compresses its own columns)")
            yield from _parquet_rows(path)
        elif head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
            for position, element in enumerate(JsonStream(text, path).elements(), start=1):
                yield from _json_rows(element, position, path)
        elif ".csv" in path.suffixes:
            yield from _csv_rows(text, path)
        else:
            raise ValueError(
                f"{path}: begins with {head[:12]!r}, which is neither JSON, JSONL nor Parquet; "
                "text must be UTF-8, a CSV file's name must end in .csv or .csv.gz, and other formats are not read"
            )


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS):
            for values in batch.to_pylist():
                yield "", values


def _csv_rows(text: IO[str], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(2**31 - 1)  # Python's default limit is 131,072 characters; a long context exceeds it
    reader = csv.DictReader(text, strict=True)
    header = list(reader.fieldnames or ())
    if len(set(header)) < len(header):
        raise ValueError(f"{path}: the header names a column twice: {', '.join(header)}; rename one")
    number = 0
    while True:
        try:
            cells: dict[Any, Any] | None = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{path}: row {number + 1} (up to line {reader.reader.line_num}): {error}; check its quoting"
            ) from error
        if cells is None:
            return
        number += 1
        if None in cells or None in cells.values():  # DictReader's mark for a row that is too long or too short
            found = sum(cells[name] is not None for name in header) + len(cells.get(None, ()))
            raise ValueError(
                f"{path}: row {number} has {found} cells, the header {len(header)} ({', '.join(header)}); "
                "put cells that hold commas, quotes or line breaks in double quotes"
            )
        yield "", cells


def _json_rows(element: Any, position: int, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of one element: the questions of a nested article, or the element itself."""
    if not isinstance(element, dict):
        raise ValueError(f"{path}: row {position} is {shown(element)}; an object with columns is expected")
    if "paragraphs" not in element:
        yield "", element
        return
    title = element.get("title")
    article = f"article {position} {title!r}" if title is not None else f"article {position}"
    for number, paragraph in enumerate(_list(element, "paragraphs", path, article), start=1):
        note = f"{article}, paragraph {number}"
        # A paragraph's own id would otherwise be taken as the id of a question without one.
        common = {key: value for key, value in _object(paragraph, path, note).items() if key not in ("qas", "id")}
        if title is not None:
            common["title"] = title
        for question in _list(paragraph, "qas", path, note):
            yield note, {**common, **_object(question, path, note)}


def _list(holder: dict[str, Any], key: str, path: Path, where: str) -> list[Any]:
    if not isinstance(holder.get(key), list):
        raise ValueError(f"{path}: {where}: {key!r} is {shown(holder.get(key))}; nested SQuAD has a list there")
    return holder[key]


def _object(value: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {where}: found {shown(value)}; nested SQuAD has an object there")
    return value


def shown(value: Any) -> str:
    return "null or missing" if value is None else f"{str(value)[:40]!r} ({type(value).__name__})"
