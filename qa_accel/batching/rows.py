"""Windows and a row of a plan -> a batch of arrays with a row per window, filled up to the longest. Numpy only, no torch.

W windows, N tokens of all of them, B windows of the batch, L tokens of a window's row.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qa_accel.batching.plan import NOTHING
from qa_accel.data.window_assembly import ranges
from qa_accel.data.windows import TaughtWindows, Windows

MULTIPLE = 8
"""Rows are as wide as the longest of the batch, rounded up to this: the number of different shapes stays small."""


@dataclass(frozen=True)
class PaddingRules:
    """How rows are filled for one model and its tokenizer."""

    pad_token_id: int
    padding_side: Literal["left", "right"] = "right"
    token_type_ids: bool = False
    """Whether the model takes them."""
    fixed_width: bool = False
    """Whether all rows have max_seq_length tokens."""
    max_length: int | None = None
    """Positions of the model: rows are never rounded up beyond it. None: no limit."""
    position_offset: int | None = None
    """Position of a window's first token, for models that take position_ids and would else count left padding as positions,
    so that a window's logits depended on its neighbours. None: the model counts."""

    def rows(self, max_seq_length: int) -> dict[str, Any]:
        """Arguments of `PaddedRows`."""
        return dict(
            pad_token_id=self.pad_token_id,
            padding_side=self.padding_side,
            token_type_ids=self.token_type_ids,
            pad_to_multiple_of=max_seq_length if self.fixed_width else MULTIPLE,
            max_length=self.max_length,
            position_offset=self.position_offset,
        )


@dataclass(frozen=True)
class ArrayBatch:
    """As `collate.Batch`, which says what is what, in arrays."""

    inputs: dict[str, np.ndarray]
    index_B: np.ndarray
    weight_B: np.ndarray
    start_B: np.ndarray
    end_B: np.ndarray
    null_B: np.ndarray
    context_BL: np.ndarray
    shift_B: np.ndarray
    teacher_start_BL: np.ndarray | None = None
    teacher_end_BL: np.ndarray | None = None
    gold_start_BL: np.ndarray | None = None
    gold_end_BL: np.ndarray | None = None


class PaddedRows:
    """Row of a plan -> ArrayBatch with a row per window. Empty slots of the plan are filled with the shortest window,
    weight 0."""

    def __init__(
        self,
        windows: Windows,
        *,
        pad_token_id: int,
        padding_side: Literal["left", "right"] = "right",
        token_type_ids: bool = False,
        pad_to_multiple_of: int = MULTIPLE,
        max_length: int | None = None,
        position_offset: int | None = None,
    ):
        """As in `PaddingRules`."""
        self.position_offset = position_offset
        self.windows, self.pad_token_id, self.padding_side = windows, pad_token_id, padding_side
        self.token_types_N = windows.token_type_ids_N if token_type_ids else None
        self.pad_to_multiple_of = pad_to_multiple_of
        longest = int(windows.lengths_W.max())
        if max_length is not None and longest > max_length:
            raise ValueError(f"the longest window has {longest} tokens, rows may have {max_length} (max_length)")
        self.max_length = max_length
        self.shortest = int(windows.lengths_W.argmin())

    def arrays(self, index_B: np.ndarray) -> ArrayBatch:
        windows = self.windows
        window_B = np.where(index_B == NOTHING, self.shortest, index_B)
        begin_B = windows.begin_W[window_B]
        length_B = windows.begin_W[window_B + 1] - begin_B
        longest = int(length_B.max())
        width = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        if self.max_length is not None:
            width = min(width, self.max_length)
        shift_B = width - length_B if self.padding_side == "left" else np.zeros_like(length_B)
        place_BL = np.arange(width) - shift_B[:, None]
        token_BL = (place_BL >= 0) & (place_BL < length_B[:, None])
        source_BL = np.where(token_BL, begin_B[:, None] + place_BL, 0)
        inputs = {
            "input_ids": int64(np.where(token_BL, windows.input_ids_N[source_BL], self.pad_token_id)),
            "attention_mask": int64(token_BL),
        }
        if self.token_types_N is not None:
            inputs["token_type_ids"] = int64(np.where(token_BL, self.token_types_N[source_BL], 0))
        if self.position_offset is not None:
            inputs["position_ids"] = int64(np.maximum(place_BL, 0) + self.position_offset)
        return ArrayBatch(inputs, **beside_inputs(windows, index_B, window_B, place_BL, shift_B))


def beside_inputs(
    windows: Windows, index_B: np.ndarray, window_B: np.ndarray, place_BL: np.ndarray, shift_B: np.ndarray
) -> dict[str, np.ndarray]:
    """The fields of a batch that the model does not take; place_BL: which token of its window a column holds."""
    real_B = index_B != NOTHING
    context_begin_B = windows.context_begin_W[window_B]
    context_end_B = np.where(real_B, windows.context_end_W[window_B], 0)  # fill has no answer
    fields = dict(
        index_B=int64(index_B),
        weight_B=real_B.astype(np.float32),
        start_B=int64(windows.start_W[window_B] + shift_B),
        end_B=int64(windows.end_W[window_B] + shift_B),
        null_B=int64(windows.null_W[window_B] + shift_B),
        context_BL=(place_BL >= context_begin_B[:, None]) & (place_BL < context_end_B[:, None]),
        shift_B=int64(shift_B),
    )
    if isinstance(windows, TaughtWindows):
        begin_B = windows.begin_W[window_B]
        length_B = windows.begin_W[window_B + 1] - begin_B
        token_BL = (place_BL >= 0) & (place_BL < length_B[:, None])
        source_BL = np.where(token_BL, begin_B[:, None] + place_BL, 0)
        for name, logits_MN in (("start", windows.teacher_start_MN), ("end", windows.teacher_end_MN)):
            mean_BL = np.mean([logits_N[source_BL] for logits_N in logits_MN], axis=0, dtype=np.float32)
            fields[f"teacher_{name}_BL"] = np.where(token_BL, mean_BL, np.float32(0))
    if windows.gold_begin_W is not None:
        assert windows.gold_start_G is not None and windows.gold_end_G is not None, "they come together"
        count_B = np.diff(windows.gold_begin_W)[window_B]
        gold = ranges(windows.gold_begin_W[window_B], count_B)
        row = np.repeat(np.arange(len(window_B)), count_B)
        for name, place_G in (("start", windows.gold_start_G), ("end", windows.gold_end_G)):
            places_BL = np.zeros(place_BL.shape, bool)
            places_BL[row, place_G[gold] + shift_B[row]] = True
            places_BL[np.arange(len(window_B)), fields[f"{name}_B"]] = True  # without an answer the null position
            fields[f"gold_{name}_BL"] = places_BL
    return fields


def int64(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64)  # a copy: a tensor of it must not look into a memory-mapped file
