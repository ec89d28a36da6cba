"""A question with its texts, tokenized for one model, and the place where the candidates of its windows come together. A question
to an ensemble is a job for each member.

Windows of a job are computed in any order, in several batches, beside those of other jobs.
"""

from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from qa_accel.data.windows import Windows
from qa_accel.inference.postprocess import Candidates
from qa_accel.inference.settings import SpanConfig

if TYPE_CHECKING:  # the model's module may import torch, which takes seconds
    from qa_accel.inference.reader_backends import ReaderModel


class WorkerEnded(Exception):
    """The thread that computes is gone, and with it what it had accepted."""


@dataclass(eq=False)
class Job:
    model: "ReaderModel"
    pairs: list[tuple[str, str]]
    """(question, text), row by row of the answers; may be none."""
    windows: Windows | None
    """None without pairs."""
    spans: SpanConfig
    done: Future[None] = field(default_factory=Future)
    """Set when every window has its candidates."""

    def __post_init__(self):
        count = 0 if self.windows is None else len(self.windows)
        self.missing = count
        self.found = _empty(count, self.spans.n_best_size)

    def __len__(self) -> int:
        """Windows."""
        return 0 if self.windows is None else len(self.windows)

    def put(self, index_W: np.ndarray, candidates: Candidates, row_W: np.ndarray) -> None:
        """Candidates of the windows at index_W: rows row_W of a batch, whose n best may be more than this job's.

        The n best are in one total order, so the best of fewer are the first of these.
        """
        for column in fields(Candidates):
            own, others = getattr(self.found, column.name), getattr(candidates, column.name)
            own[index_W] = others[row_W] if own.ndim == 1 else others[row_W, : own.shape[1]]
        self.missing -= len(index_W)
        assert self.missing >= 0, "each window is computed once"


def _empty(windows: int, n_best: int) -> Candidates:
    columns: dict[str, Any] = {}
    for column in fields(Candidates):
        shape = (windows, n_best) if column.name.endswith("_WK") else (windows,)
        whole = column.name in ("start_WK", "end_WK")
        columns[column.name] = np.zeros(shape, np.int32 if whole else np.float32)
    return Candidates(**columns)
