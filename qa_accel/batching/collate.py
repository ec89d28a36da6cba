"""Windows and a row of a plan -> one batch of tensors, padded or packed; a model's logits -> a row per window.

Padded: a row per window, filled up to the longest of the batch. Packed: all windows concatenated in one row of T tokens,
T the same for the whole run, so that there is no padding between windows and no shape ever changes; the row's tail is
cut into filler windows, since every token has to belong to a window that is short enough for attention and positions.

Either way a Batch keeps what the model takes (inputs) apart from what only we need, and window_logits() brings the
model's answer back to a row per window: after that, code does not depend on how the batch was made.

W windows, N tokens of all of them, B windows of the batch, L tokens of a window's row, T tokens of the packed row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from qa_accel.batching.plan import NOTHING
from qa_accel.batching.rows import ArrayBatch, PaddedRows, beside_inputs, int64
from qa_accel.data.windows import Windows


@dataclass(frozen=True)
class Batch:
    """Positions (start_B, end_B, null_B, context_BL) count columns of the rows that window_logits() gives."""

    inputs: dict[str, torch.Tensor | int]
    """What the model takes: model(**batch.inputs)."""
    index_B: torch.Tensor
    """int64: each window's place among all windows, -1 for fill."""
    weight_B: torch.Tensor
    """float32: 1, or 0 for fill."""
    start_B: torch.Tensor
    """int64: first token of the answer, or the null position."""
    end_B: torch.Tensor
    """int64: last token of the answer, or the null position."""
    null_B: torch.Tensor
    """int64: the token that represents "no answer"."""
    context_BL: torch.Tensor
    """bool: the context's tokens, where an answer may be."""
    shift_B: torch.Tensor
    """int64: columns before a window's first token (left padding); column - shift is the place in the window."""
    teacher_start_BL: torch.Tensor | None = None
    """float32: the mean of the teachers' start logits; 0 where a row has no token. None without a teacher."""
    teacher_end_BL: torch.Tensor | None = None
    """The same of the end."""
    gold_start_BL: torch.Tensor | None = None
    """bool: the first tokens of all answers of a window, or its null position, start_B among them. None if a window has one
    label."""
    gold_end_BL: torch.Tensor | None = None
    """The same of the last tokens."""

    @property
    def tokens(self) -> torch.Tensor:
        """int64: the model's input_ids."""
        tokens = self.inputs["input_ids"]
        assert isinstance(tokens, torch.Tensor)
        return tokens

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """torch's DataLoader calls this if pinning is requested."""
        return self._each(lambda tensor: tensor.pin_memory())

    def copy_from(self, other: "Batch") -> None:
        """Copy the tensors of another batch of the same shapes into these, as soon as the device comes to it."""
        for name, tensor in self.inputs.items():
            if isinstance(tensor, torch.Tensor):
                tensor.copy_(other.inputs[name], non_blocking=True)  # type: ignore[arg-type]
        for name, tensor in self.beside_inputs().items():
            tensor.copy_(getattr(other, name), non_blocking=True)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        inputs = {name: change(x) if isinstance(x, torch.Tensor) else x for name, x in self.inputs.items()}
        return Batch(inputs=inputs, **{name: change(tensor) for name, tensor in self.beside_inputs().items()})

    def beside_inputs(self) -> dict[str, torch.Tensor]:
        """Name -> tensor of all that the model does not take; without a teacher's and several labels, where there are none."""
        return _given(self)


class PaddedCollator(PaddedRows):
    """Row of a plan -> Batch with a row per window."""

    def __call__(self, index_B: np.ndarray) -> Batch:
        arrays = self.arrays(index_B)
        inputs: dict[str, torch.Tensor | int] = {name: torch.from_numpy(x) for name, x in arrays.inputs.items()}
        return Batch(inputs=inputs, **{name: torch.from_numpy(array) for name, array in _given(arrays).items()})


class PackedCollator:
    """Row of a plan -> Batch of one row of T tokens. Where the plan holds nothing, the row has a window of no tokens.

    Attention finds the windows by cu_seq_lens: window b is cu_seq_lens[b] to cu_seq_lens[b + 1]; after the batch's
    windows come the fillers, as many as T could need, most of them without tokens, so that the shape is always the same.
    """

    def __init__(
        self,
        windows: Windows,
        *,
        row_tokens: int,
        max_length: int,
        pad_token_id: int,
        position_offset: int = 0,
        token_type_ids: bool = False,
    ):
        """row_tokens: T, from plan.row_tokens. max_length: no window is longer (max_seq_length).

        position_offset: position of a window's first token. token_type_ids: whether the model takes them.
        """
        longest = int(windows.lengths_W.max())
        if longest > max_length:
            raise ValueError(f"the longest window has {longest} tokens, max_length is {max_length}")
        self.windows, self.row_tokens, self.max_length = windows, row_tokens, max_length
        self.pad_token_id, self.position_offset, self.token_type_ids = pad_token_id, position_offset, token_type_ids
        self.fillers = -(-row_tokens // max_length)

    def __call__(self, index_B: np.ndarray) -> Batch:
        windows, T = self.windows, self.row_tokens
        nothing_B = index_B == NOTHING
        window_B = np.where(nothing_B, 0, index_B)
        begin_B = windows.begin_W[window_B]
        length_B = np.where(nothing_B, 0, windows.begin_W[window_B + 1] - begin_B)
        end_B = np.cumsum(length_B)
        used = int(end_B[-1])
        if used > T:
            raise ValueError(f"a batch of {used} tokens for rows of {T}: row_tokens must come from this very plan")
        filler_ends = np.minimum(used + self.max_length * np.arange(1, self.fillers + 1), T)
        boundaries = np.concatenate([[0], end_B, filler_ends])
        length_S = np.diff(boundaries)  # S: windows and fillers
        input_ids_T = np.full(T, self.pad_token_id)
        source = np.arange(used) + np.repeat(begin_B - boundaries[: len(begin_B)], length_B)
        input_ids_T[:used] = windows.input_ids_N[source]
        position_T = np.arange(self.position_offset, T + self.position_offset) - np.repeat(boundaries[:-1], length_S)
        cu_seq_lens = torch.from_numpy(boundaries.astype(np.int32))
        inputs: dict[str, torch.Tensor | int] = {
            "input_ids": _int64(input_ids_T[None]),
            "position_ids": _int64(position_T[None]),
            "cu_seq_lens_q": cu_seq_lens,
            "cu_seq_lens_k": cu_seq_lens,
            "max_length_q": self.max_length,
            "max_length_k": self.max_length,
        }
        if self.token_type_ids:
            token_types_T = np.zeros(T, np.int64)
            if windows.token_type_ids_N is not None:
                token_types_T[:used] = windows.token_type_ids_N[source]
            inputs["token_type_ids"] = _int64(token_types_T[None])
        place_BL = np.broadcast_to(np.arange(self.max_length), (len(index_B), self.max_length))
        others = beside_inputs(windows, index_B, window_B, place_BL, np.zeros_like(begin_B))
        return Batch(inputs=inputs, **{name: torch.from_numpy(array) for name, array in others.items()})


def _given(batch: Batch | ArrayBatch) -> dict[str, Any]:
    """The fields beside `inputs` that are not None."""
    others = {field.name: getattr(batch, field.name) for field in fields(batch) if field.name != "inputs"}
    return {name: value for name, value in others.items() if value is not None}


def _int64(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(int64(array))


def window_logits(
    start_logits: torch.Tensor, end_logits: torch.Tensor, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The model's logits, (B, L) or (1, T) -> start_BL, end_BL in float32, token_BL: a row per window, and its tokens.

    Where a row has no token, the logits are the lowest finite number: a softmax gives it nothing, and a window that has
    no tokens at all (fill) still has a finite loss, which weight 0 then removes.
    """
    if "cu_seq_lens_q" in batch.inputs:
        column_L = torch.arange(batch.context_BL.shape[1], device=start_logits.device)
        boundaries = batch.inputs["cu_seq_lens_q"][: len(batch.index_B) + 1].long()  # type: ignore[index]
        first_B = boundaries[:-1]
        token_BL = column_L < (boundaries[1:] - first_B)[:, None]
        source_BL = (first_B[:, None] + column_L).clamp(max=start_logits.shape[1] - 1)
        start_BL, end_BL = start_logits[0][source_BL], end_logits[0][source_BL]
    else:
        token_BL = batch.inputs["attention_mask"].bool()  # type: ignore[union-attr]
        start_BL, end_BL = start_logits, end_logits
    lowest = torch.finfo(torch.float32).min
    return start_BL.float().masked_fill(~token_BL, lowest), end_BL.float().masked_fill(~token_BL, lowest), token_BL


class PlannedBatches(Dataset):
    """Entry n is the n-th batch of a rank's part of a plan: plan.rank_batches(...), or every world_size-th in prediction."""

    def __init__(self, collate: Callable[[np.ndarray], Batch], plan: np.ndarray | Sequence[np.ndarray]):
        self.collate, self.plan = collate, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, n: int) -> Batch:
        return self.collate(self.plan[n])


def batch_loader(
    collate: Callable[[np.ndarray], Batch],
    plan: np.ndarray | Sequence[np.ndarray],
    *,
    first: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """Batches of a (batches, batch_size) plan, or of rows of any sizes, in order, from entry `first` on (where a run resumes)."""
    return DataLoader(
        PlannedBatches(collate, plan),
        batch_size=None,
        sampler=range(first, len(plan)),
        pin_memory=pin_memory,
        # its own: iter(DataLoader) draws a number, which would take dropout's random state off its course at a resume
        generator=torch.Generator(),
    )
