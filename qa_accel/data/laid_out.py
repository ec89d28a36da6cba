"""A record batch of the final size -> an Arrow file whose columns are filled afterwards, in bounded memory.

The batch's bytes are written by a file, so that a full disk raises. A batch of zeros takes no memory: nobody touched its pages.
"""

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa


class Place(NamedTuple):
    """Where the values of a column are in the file; those of a column of lists one list after the other."""

    begin: int
    """Byte of the first value."""
    size: int
    """Bytes of all values."""
    dtype: np.dtype


def lay_out(path: Path, batch: pa.RecordBatch, names: Iterable[str]) -> dict[str, Place]:
    """Write `batch`; the places of the columns of these names."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    first_byte = np.frombuffer(mapped, np.uint8).ctypes.data
    written = pa.ipc.open_file(pa.py_buffer(mapped)).get_batch(0)
    places = {}
    for name in names:
        column = written[name]
        values = (column.values if isinstance(column, pa.LargeListArray) else column).to_numpy()
        places[name] = Place(values.ctypes.data - first_byte, values.nbytes, values.dtype)
    return places


class MappedColumns:
    """Columns of a laid out file as writable arrays, for parts that are in one piece each."""

    def __init__(self, path: Path, places: dict[str, Place]):
        with path.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), 0)
        file_bytes = np.frombuffer(self._mapped, np.uint8)
        self.columns = {
            name: file_bytes[place.begin : place.begin + place.size].view(place.dtype) for name, place in places.items()
        }

    def forget_pages(self) -> None:
        """Written pages stay in the file, but no longer count as this process's memory."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def flush(self) -> None:
        self._mapped.flush()
