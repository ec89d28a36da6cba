"""A record batch of the final size -> an Arrow file whose columns are filled part after part, in bounded memory.

The batch's bytes are written by a file, not through the map: on a full disk a write raises, but a map kills the process.
"""

import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa


class LaidOut:
    """The columns of one file as writable arrays; those of lists as their values, one list after the other."""

    def __init__(self, path: Path, batch: pa.RecordBatch, names: Iterable[str]):
        """Write `batch`, and map the columns of these names. A batch of zeros takes no memory: nobody touched its pages."""
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        with path.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), 0)
        file_bytes = np.frombuffer(self._mapped, np.uint8)
        mapped = pa.ipc.open_file(pa.py_buffer(self._mapped)).get_batch(0)
        self.columns: dict[str, np.ndarray] = {}
        for name in names:
            column = mapped[name]
            values = column.values if isinstance(column, pa.LargeListArray) else column
            seen = values.to_numpy()  # read-only, at the address that the writable array gets
            begin = seen.ctypes.data - file_bytes.ctypes.data
            self.columns[name] = file_bytes[begin : begin + seen.nbytes].view(seen.dtype)

    def forget_pages(self) -> None:
        """Written pages stay in the file, but no longer count as this process's memory."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def flush(self) -> None:
        self._mapped.flush()
