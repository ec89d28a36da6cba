"""One Arrow file that holds a model's start and end logits of all tokens of some windows. Written in any order, read mapped.

A row per window, in window order: the columns `start` and `end` are lists of a logit per token. Files in float32 have
two more numbers per window, `lse_start` and `lse_end`: the normalisers as the device computed them (`Candidates`), so
that answers can be decoded from the file to the bit. No torch.

W windows, N tokens of all of them one after the other, B windows of one part.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from qa_accel.data import cache_file
from qa_accel.data.laid_out import lay_out
from qa_accel.data.settings import LogitsDtype
from qa_accel.data.windows import Windows

LARGEST_FLOAT16 = 65504.0
LSE = ("lse_start", "lse_end")


@dataclass(frozen=True, eq=False)
class SavedLogits:
    """Mapped: processes of one machine share it, and nothing is read before it is used."""

    start_N: np.ndarray
    """float16 or float32: token n of all windows, one window after the other (`Windows.begin_W`)."""
    end_N: np.ndarray
    begin_W: np.ndarray
    """int64, W + 1 entries, those of the windows."""
    lse_start_W: np.ndarray | None = None
    """float32: the device's normalisers. None in a file of float16, whose logits are rounded."""
    lse_end_W: np.ndarray | None = None


def read(path: Path) -> SavedLogits:
    """Raises ValueError for a file that holds no logits. `cache_file.is_usable` says whether its bytes are whole."""
    try:
        batch = pa.ipc.open_file(cache_file.content(path)).get_batch(0)
        start, end = batch["start"], batch["end"]
        begin_W = start.offsets.to_numpy()
        lse = [batch[name].to_numpy() if name in batch.schema.names else None for name in LSE]
        return SavedLogits(start.values.to_numpy(), end.values.to_numpy(), begin_W, *lse)
    except (pa.ArrowInvalid, KeyError, AttributeError, IndexError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and it will be computed again") from error


class LogitFileWriter:
    """A file of zeros that is filled window by window; memory does not grow with it.

    It is not mapped: windows come in order of their length, from all over the file, and the kernel may map megabytes around
    each. Besides, a write that fails raises; a map would kill the process.
    """

    def __init__(self, path: Path, windows: Windows, dtype: LogitsDtype):
        self.windows, self.dtype = windows, np.dtype(dtype)
        zeros_N = pa.array(np.zeros(windows.begin_W[-1], self.dtype))
        lists = pa.LargeListArray.from_arrays(pa.array(np.asarray(windows.begin_W, np.int64)), zeros_N)
        columns: dict[str, pa.Array] = {"start": lists, "end": lists}
        self._lse_2W = None
        if dtype == "float32":
            self._lse_2W = np.zeros((2, len(windows)), np.float32)
            columns |= dict(zip(LSE, map(pa.array, self._lse_2W)))
        self._places = lay_out(path, pa.record_batch(columns), columns)
        self._file = path.open("r+b", buffering=0)
        self._present_W = np.zeros(len(windows), bool)

    def place(
        self,
        index_B: np.ndarray,
        start_BL: np.ndarray,
        end_BL: np.ndarray,
        lse_start_B: np.ndarray,
        lse_end_B: np.ndarray,
    ) -> None:
        """float32 logits of these windows, each from its first token on; what is behind its last one does not count.

        Raises ValueError for a logit that is not finite or too large for the file's type, with the window's place.
        """
        length_B = self.windows.lengths_W[index_B]
        token_BL = np.arange(start_BL.shape[1]) < length_B[:, None]
        for name, given_BL in (("start", start_BL), ("end", end_BL)):
            logits_BL = np.where(token_BL, given_BL, np.float32(0))
            self._check(name, logits_BL, index_B)
            begin_B = self._places[name].begin + self.windows.begin_W[index_B] * self.dtype.itemsize
            kept_BL = logits_BL.astype(self.dtype)
            for begin, length, logits_L in zip(begin_B.tolist(), length_B.tolist(), kept_BL):
                self._write(begin, logits_L[:length])
        if self._lse_2W is not None:
            self._lse_2W[:, index_B] = lse_start_B, lse_end_B
        self._present_W[index_B] = True

    def _check(self, name: str, logits_BL: np.ndarray, index_B: np.ndarray) -> None:
        self._refuse_where(
            np.logical_not(np.isfinite(logits_BL).all(axis=1)),
            index_B,
            lambda b: (
                f"{name} logits are not finite: the model's logits overflowed or its weights are damaged; "
                "try without half precision"
            ),
        )
        if self.dtype == np.float16:
            largest_B = np.abs(logits_BL).max(axis=1, initial=0)
            self._refuse_where(
                largest_B > LARGEST_FLOAT16,
                index_B,
                lambda b: (
                    f"{name} logits of up to {largest_B[b]:.6g} do not fit into float16, whose largest number is "
                    f"{LARGEST_FLOAT16:.0f}: keep them as float32 (--logits_dtype float32)"
                ),
            )

    def _refuse_where(self, wrong_B: np.ndarray, index_B: np.ndarray, reason: Callable[[int], str]) -> None:
        if wrong_B.any():
            b = int(wrong_B.argmax())
            row = int(self.windows.question_W[index_B[b]])
            raise ValueError(f"window {int(index_B[b])} (question {row + 1} of the data): its {reason(b)}")

    def _write(self, begin: int, values: np.ndarray) -> None:
        self._file.seek(begin)
        written = self._file.write(values.tobytes())
        if written != values.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def finish(self) -> None:
        assert self._present_W.all(), "every window of the plan came back"
        if self._lse_2W is not None:
            for name, lse_W in zip(LSE, self._lse_2W):
                self._write(self._places[name].begin, lse_W)
        self._file.close()
