"""All logits of a prediction's rounds, from all ranks -> the file that keeps them.

A round's width follows from the plan, which every rank has, so that ranks whose batches have other widths send equally
much without asking each other. W windows, B windows of one round or batch, L tokens of a window's row, R ranks.
"""

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from qa_accel.batching.collate import Batch, window_logits
from qa_accel.batching.plan import NOTHING
from qa_accel.data.logit_file import LogitFileWriter
from qa_accel.data.windows import Windows
from qa_accel.inference.candidate_rows import HostCopies


class LogitRounds:
    """The rows of one round after the other, from all ranks into the file."""

    def __init__(self, windows: Windows, writer: LogitFileWriter | None):
        """`writer`: None on ranks that do not write."""
        self._lengths_W, self._writer = windows.lengths_W, writer
        self._copies = HostCopies(self._place)

    def gather(
        self, accelerator: Accelerator, plan_RB: np.ndarray, batch: Batch | None, output: Any, rows_BC: torch.Tensor
    ) -> None:
        """One round. All ranks must call.

        `plan_RB`: the rows of the plan that the ranks computed; it gives the width that all of them send. `batch` and
        `output`: this rank's, or None. `rows_BC`: the candidates of all ranks, gathered, in the same order.
        """
        width = int(np.where(plan_RB == NOTHING, 0, self._lengths_W[plan_RB]).max())
        logits_BL = torch.zeros((plan_RB.shape[1], 2 * width), device=accelerator.device)
        if batch is not None:
            logits_BL[: len(batch.index_B)] = token_rows(output.start_logits, output.end_logits, batch, width)
        gathered: Any = accelerator.gather(logits_BL)
        if self._writer is not None:
            self._copies.put(rows_BC, gathered)

    def _place(self, rows_BC: np.ndarray, logits_BL: np.ndarray) -> None:
        assert self._writer is not None, "only writers copy"
        real = rows_BC[:, 0] != NOTHING
        rows_BC, (start_BL, end_BL) = rows_BC[real], np.split(logits_BL[real], 2, axis=1)
        lse_start_B, lse_end_B = np.ascontiguousarray(rows_BC[:, 3:5].T).view(np.float32)
        self._writer.place(rows_BC[:, 0], start_BL, end_BL, lse_start_B, lse_end_B)

    def finish(self) -> None:
        self._copies.wait()
        if self._writer is not None:
            self._writer.finish()


def token_rows(
    start_logits: torch.Tensor | np.ndarray, end_logits: torch.Tensor | np.ndarray, batch: Batch, width: int
) -> torch.Tensor:
    """(B, 2 width) float32: of each window its start logits from the first token on, then its end logits.

    What is behind a window's last token is arbitrary.
    """
    start_BL, end_BL, _ = window_logits(torch.as_tensor(start_logits), torch.as_tensor(end_logits), batch)
    column_BL = batch.shift_B[:, None] + torch.arange(width, device=batch.shift_B.device)
    column_BL = column_BL.clamp(max=start_BL.shape[1] - 1)
    return torch.cat([start_BL.gather(1, column_BL), end_BL.gather(1, column_BL)], dim=1)
