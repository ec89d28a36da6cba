"""Logits of a batch -> one row of numbers per window, all that leaves the device; these rows, in any order -> candidates.

A row is the window's index, the logits of its null position, the normalisers of its start and end logits, and its n best
spans: 5 + 4 n numbers of 32 bits, whatever the window's length.
"""

from collections import deque

import numpy as np
import torch

from qa_accel.batching.collate import Batch, window_logits
from qa_accel.batching.plan import NOTHING
from qa_accel.inference.postprocess import Candidates, SpanConfig
from qa_accel.inference.topk_spans import best_spans

IN_FLIGHT = 3
"""Batches whose rows may still be on their way from a CUDA device."""


def columns(config: SpanConfig) -> int:
    """Numbers per gathered row."""
    return 5 + 4 * config.n_best_size


def candidate_rows(
    start_logits: torch.Tensor, end_logits: torch.Tensor, batch: Batch, config: SpanConfig
) -> torch.Tensor:
    """(B, 5 + 4 K) int32, one gather for all: window index, logits of the null position, normalisers of start and end, and
    of each span start, end and their logits.

    Floats travel as their 32 bits. Positions count from the window's first token.
    """
    start_BL, end_BL, _ = window_logits(start_logits, end_logits, batch)
    null_B1 = batch.null_B[:, None]
    places_BL = batch.context_BL.scatter(1, null_B1, True)  # where an answer, or "no answer", may be
    lowest = torch.finfo(torch.float32).min
    lse_B1, end_lse_B1 = (
        logits_BL.masked_fill(~places_BL, lowest).logsumexp(1, keepdim=True) for logits_BL in (start_BL, end_BL)
    )
    start_BK, end_BK, start_logit_BK, end_logit_BK = best_spans(
        start_BL, end_BL, batch.context_BL, config.max_answer_length, config.n_best_size
    )
    shift_B1 = batch.shift_B[:, None]
    parts = [
        batch.index_B[:, None].int(),
        *(
            column.contiguous().view(torch.int32)
            for column in (start_BL.gather(1, null_B1), end_BL.gather(1, null_B1), lse_B1, end_lse_B1)
        ),
        torch.where(start_BK < 0, -1, start_BK - shift_B1).int(),
        torch.where(end_BK < 0, -1, end_BK - shift_B1).int(),
        start_logit_BK.contiguous().view(torch.int32),
        end_logit_BK.contiguous().view(torch.int32),
    ]
    return torch.cat(parts, dim=1)


class GatheredRows:
    """Rows of all windows in place; allocated once, on rank 0."""

    def __init__(self, windows: int, config: SpanConfig):
        self.rows_WC = np.zeros((windows, columns(config)), np.int32)
        self.present_W = np.zeros(windows, bool)
        self._on_their_way: deque[tuple[torch.cuda.Event, torch.Tensor]] = deque()

    def put(self, rows_BC: torch.Tensor) -> None:
        """From CUDA the rows are copied while the next batches are computed: the host does not wait for each batch."""
        if rows_BC.device.type != "cuda":
            self._place(rows_BC)
            return
        copy_BC, copied = rows_BC.to("cpu", non_blocking=True), torch.cuda.Event()
        copied.record()
        self._on_their_way.append((copied, copy_BC))
        if len(self._on_their_way) > IN_FLIGHT:
            self._wait_for_oldest()

    def _wait_for_oldest(self) -> None:
        copied, rows_BC = self._on_their_way.popleft()
        copied.synchronize()
        self._place(rows_BC)

    def _place(self, rows_BC: torch.Tensor) -> None:
        rows = rows_BC.cpu().numpy()
        rows = rows[rows[:, 0] != NOTHING]
        self.rows_WC[rows[:, 0]] = rows
        self.present_W[rows[:, 0]] = True

    def candidates(self) -> Candidates:
        while self._on_their_way:
            self._wait_for_oldest()
        assert self.present_W.all(), "every window of the plan came back"
        rows = self.rows_WC
        start, end, start_logit, end_logit = np.split(rows[:, 5:], 4, axis=1)
        return Candidates(
            *np.ascontiguousarray(rows[:, 1:5].T).view(np.float32),
            start_WK=start,
            end_WK=end,
            start_logit_WK=np.ascontiguousarray(start_logit).view(np.float32),
            end_logit_WK=np.ascontiguousarray(end_logit).view(np.float32),
        )
