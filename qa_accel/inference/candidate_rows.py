"""Logits of a batch -> one row of numbers per window, all that leaves the device.

What a row holds is in `window_rows.py`, which makes it from arrays.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
import torch

from qa_accel.batching.collate import Batch, window_logits
from qa_accel.batching.rows import ArrayBatch
from qa_accel.inference.postprocess import Candidates
from qa_accel.inference.settings import SpanConfig
from qa_accel.inference.spans_apart import best_spans_apart
from qa_accel.inference.topk_spans import best_spans
from qa_accel.inference.window_rows import WindowRows, window_rows

IN_FLIGHT = 3
"""Batches whose rows may still be on their way from a CUDA device."""


def candidate_rows(
    start_logits: torch.Tensor | np.ndarray, end_logits: torch.Tensor | np.ndarray, batch: Batch, config: SpanConfig
) -> torch.Tensor:
    """(B, `columns(config)`) int32, one gather for all: window index, logits of the null position, normalisers of start and
    end, and of each span start, end and their logits; where several answers are asked for, also of the spans that are apart.

    Floats travel as their 32 bits. Positions count from the window's first token. The logits of a model outside of torch are
    arrays, and so is the work on them.
    """
    if isinstance(start_logits, np.ndarray):
        assert isinstance(end_logits, np.ndarray), "both from one model"
        return torch.from_numpy(window_rows(start_logits, end_logits, _arrays(batch), config))
    assert isinstance(end_logits, torch.Tensor), "both from one model"
    start_BL, end_BL, _ = window_logits(start_logits, end_logits, batch)
    null_B1 = batch.null_B[:, None]
    places_BL = batch.context_BL.scatter(1, null_B1, True)  # where an answer, or "no answer", may be
    lowest = torch.finfo(torch.float32).min
    lse_B1, end_lse_B1 = (
        logits_BL.masked_fill(~places_BL, lowest).logsumexp(1, keepdim=True) for logits_BL in (start_BL, end_BL)
    )
    shift_B1 = batch.shift_B[:, None]
    parts = [
        batch.index_B[:, None].int(),
        *(
            column.contiguous().view(torch.int32)
            for column in (start_BL.gather(1, null_B1), end_BL.gather(1, null_B1), lse_B1, end_lse_B1)
        ),
    ]
    for search in (best_spans, best_spans_apart) if config.several else (best_spans,):
        start_BK, end_BK, start_logit_BK, end_logit_BK = search(
            start_BL, end_BL, batch.context_BL, config.max_answer_length, config.n_best_size
        )
        parts += [
            torch.where(start_BK < 0, -1, start_BK - shift_B1).int(),
            torch.where(end_BK < 0, -1, end_BK - shift_B1).int(),
            start_logit_BK.contiguous().view(torch.int32),
            end_logit_BK.contiguous().view(torch.int32),
        ]
    return torch.cat(parts, dim=1)


def _arrays(batch: Batch) -> ArrayBatch:
    """Views of a batch's tensors, which are on the host."""
    inputs = {name: x.numpy() for name, x in batch.inputs.items() if isinstance(x, torch.Tensor)}
    return ArrayBatch(inputs, **{name: tensor.numpy() for name, tensor in batch.beside_inputs().items()})


class HostCopies:
    """Tensors -> a function that takes them as arrays on the host, in order.

    From CUDA they are copied while the next batches are computed: the host does not wait for each batch.
    """

    def __init__(self, place: Callable[..., None]):
        self._place = place
        self._on_their_way: deque[tuple[torch.cuda.Event, tuple[torch.Tensor, ...]]] = deque()

    def put(self, *tensors: torch.Tensor) -> None:
        if tensors[0].device.type != "cuda":
            self._place(*(tensor.cpu().numpy() for tensor in tensors))
            return
        copies, copied = tuple(tensor.to("cpu", non_blocking=True) for tensor in tensors), torch.cuda.Event()
        copied.record()
        self._on_their_way.append((copied, copies))
        if len(self._on_their_way) > IN_FLIGHT:
            self._wait_for_oldest()

    def _wait_for_oldest(self) -> None:
        copied, copies = self._on_their_way.popleft()
        copied.synchronize()
        self._place(*(copy.numpy() for copy in copies))

    def wait(self) -> None:
        """Until all that was put is placed."""
        while self._on_their_way:
            self._wait_for_oldest()


class GatheredRows(WindowRows):
    """Rows of all windows, which come from a device."""

    def __init__(self, windows: int, config: SpanConfig):
        super().__init__(windows, config)
        self._copies = HostCopies(self.place)

    def put(self, rows_BC: torch.Tensor) -> None:
        self._copies.put(rows_BC)

    def candidates(self) -> Candidates:
        self._copies.wait()
        return super().candidates()
