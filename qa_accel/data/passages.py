"""A table of passages (id, text) -> lookup by id in bounded memory: one Arrow file and a sorted index, both memory-mapped.

They are made once per cache folder, by whichever process comes first, and named by path, size and time of the table's
files. Building needs 16 bytes a passage on the disk and a few MB of memory; a lookup reads the pages that it needs.
"""

import fcntl
import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from qa_accel import files
from qa_accel.data import corpus_rows, squad_format
from qa_accel.data.corpus_pieces import CorpusFile, corpus_files, pieces
from qa_accel.messages import quoted

logger = logging.getLogger(__name__)

VERSION = 1
"""Increase it when the same table gives other files."""
TEXT_COLUMNS = ("text", "context")
"""The passage's text, the first of these that its file has."""
BATCH = 1024  # passages per record batch
BUCKETS = 2**12  # of the index while it is sorted, so that one bucket is sorted in memory at a time
BLOCK = 2**18  # index entries read at once


class PassageTable:
    """Texts by id; any number of processes may read one."""

    def __init__(self, path: Path):
        """`path`: the Arrow file that `passage_table` made; its index is beside it."""
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._index = np.load(_index_of(path), mmap_mode="r")  # hashes, ascending, and rows: each contiguous

    def __len__(self) -> int:
        return self._index.shape[1]

    def __call__(self, ids: list[str]) -> list[str | None]:
        """The texts; None for an id that the table does not have."""
        return [self._text(key) for key in ids]

    def _text(self, key: str) -> str | None:
        hashes, rows = self._index
        wanted = _hash(key)
        place = int(np.searchsorted(hashes, wanted))
        while place < len(hashes) and hashes[place] == wanted:
            number, row = divmod(int(rows[place]), BATCH)
            batch = self._reader.get_batch(number)
            if batch["id"][row].as_py() == key:  # else another id with the same hash
                return batch["text"][row].as_py()
            place += 1
        return None


def passage_table(
    patterns: Sequence[str], setting: str, folder: Path, tick: Callable[[], None] = lambda: None
) -> tuple[Path, list[CorpusFile]]:
    """The Arrow file of a table, made in the cache folder if it is not there, and the table's own files.

    `tick` is called for each batch of passages, and may raise to stop.

    Raises ValueError with file and row for what is no passage, and for an id that comes twice.
    """
    found = corpus_files(patterns, setting)
    identity = [[str(file.path.resolve()), file.size, file.changed] for file in found]
    name = hashlib.blake2b(json.dumps([VERSION, identity]).encode(), digest_size=16).hexdigest()
    path = folder / f"passages-{name}.arrow"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_suffix(".lock")):
        if not (path.is_file() and _index_of(path).is_file()):
            logger.info("indexing the passages of %d files", len(found))
            with files.replacing_all([path, _index_of(path)], files.CACHE_REMEDY) as [arrow, index]:
                _make(found, arrow, index, tick)
    return path, found


def _make(found: list[CorpusFile], arrow: Path, index: Path, tick: Callable[[], None]) -> None:
    schema = pa.schema({"id": pa.string(), "text": pa.string()})
    with index.open("wb") as entries, arrow.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
        count = 0
        for ids, texts in _batches(found):
            tick()
            writer.write_batch(pa.record_batch([pa.array(ids, pa.string()), pa.array(texts, pa.string())], schema))
            hashes = np.array([_hash(key) for key in ids], np.uint64)
            entries.write(np.stack([hashes, np.arange(count, count + len(ids), dtype=np.uint64)], axis=1).tobytes())
            count += len(ids)
    _sort(index)
    _check_different(arrow, index)


def _batches(found: list[CorpusFile]) -> Iterator[tuple[list[str], list[str]]]:
    """Ids and texts of BATCH passages, but of the last ones."""
    ids: list[str] = []
    texts: list[str] = []
    for file in found:
        for place, values in _rows(file):
            try:
                name = next((name for name in TEXT_COLUMNS if name in values), TEXT_COLUMNS[0])
                ids.append(squad_format.identifier(values, squad_format.Columns()))
                texts.append(squad_format.cell_text(values, name, "passages_file"))
                texts[-1].encode()
            except UnicodeEncodeError as error:
                reason = squad_format.half_a_pair(texts[-1], error)
                raise ValueError(f"{corpus_rows.place_text(file, place)}: {reason}") from None
            except ValueError as error:
                raise ValueError(f"{corpus_rows.place_text(file, place)}: {error}") from error
            if len(ids) == BATCH:
                yield ids, texts
                ids, texts = [], []
    if ids:
        yield ids, texts


def _rows(file: CorpusFile) -> Iterator[tuple[int, dict[str, Any]]]:
    for piece in pieces([file], {"id": "passages_file"}, 2**26):
        yield from corpus_rows.rows(piece, ["id", *TEXT_COLUMNS])


def _sort(path: Path) -> None:
    """Pairs of hash and row, in any order -> a .npy file of all hashes, ascending, and their rows.

    First by the upper bits, then bucket by bucket in memory.
    """
    pairs = np.memmap(path, np.uint64, "r").reshape(-1, 2) if path.stat().st_size else np.zeros((0, 2), np.uint64)
    result = path.with_name(f"{path.name}.sorted")
    count = np.zeros(BUCKETS + 1, np.int64)
    for block in _blocks(pairs):
        count[1:] += np.bincount(_bucket(block), minlength=BUCKETS)
    ends = np.cumsum(count)
    target = np.lib.format.open_memmap(result, "w+", np.uint64, (2, len(pairs)))
    next_place = ends[:-1].copy()
    for block in _blocks(pairs):
        block = block[np.argsort(_bucket(block), kind="stable")]
        bucket, first, size = np.unique(_bucket(block), return_index=True, return_counts=True)
        target[:, np.repeat(next_place[bucket] - first, size) + np.arange(len(block))] = block.T
        next_place[bucket] += size
    for begin, end in itertools.pairwise(ends.tolist()):
        if end - begin > 1:
            target[:, begin:end] = target[:, begin + np.argsort(target[0, begin:end], kind="stable")]
    target.flush()
    result.replace(path)


def _blocks(pairs: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(pairs), BLOCK):
        yield np.array(pairs[first : first + BLOCK])


def _bucket(pairs: np.ndarray) -> np.ndarray:
    return (pairs[:, 0] >> np.uint64(52)).astype(np.int64)


def _check_different(arrow: Path, index: Path) -> None:
    """Raises ValueError if an id comes twice."""
    hashes, rows = np.load(index, mmap_mode="r")
    reader = pa.ipc.open_file(pa.memory_map(str(arrow)))
    for first in range(0, len(hashes), BLOCK):
        block = np.array(hashes[first : first + BLOCK + 1])
        for place in first + np.flatnonzero(block[1:] == block[:-1]):
            one, other = map(int, rows[place : place + 2])
            if (key := _id_of(reader, one)) == _id_of(reader, other):
                raise ValueError(
                    f"--passages_file: id {quoted(key)} comes twice, as passages {one + 1:,} and {other + 1:,} of all files; ids "
                    "must differ: take one out"
                )


def _id_of(reader: Any, row: int) -> str:
    return reader.get_batch(row // BATCH)["id"][row % BATCH].as_py()


def _hash(key: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little"))


def _index_of(path: Path) -> Path:
    return path.with_suffix(".index.npy")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the others wait. The kernel frees the lock of a process that dies."""
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX)
        except OSError as error:  # a file system without locks: each process builds for itself, with the same content
            logger.warning("%s: cannot be locked (%s)", path, error)
        yield
