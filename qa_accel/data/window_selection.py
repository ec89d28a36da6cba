"""Some windows of several sets -> one set: what a batch needs whose windows come from different requests."""

from collections.abc import Sequence

import numpy as np

from qa_accel.data.window_assembly import offsets_of, ranges
from qa_accel.data.windows import Windows


def joined(parts: Sequence[tuple[Windows, np.ndarray]]) -> Windows:
    """Of each set the windows at these places, set after set. All are from one tokenizer.

    They are windows for a forward pass: each counts as a question of its own, in `question_W`.
    """
    assert parts, "a batch has windows"
    place_N = [ranges(windows.begin_W[:-1][index_W], windows.lengths_W[index_W]) for windows, index_W in parts]

    def of_tokens(name: str) -> np.ndarray:
        return np.concatenate([getattr(windows, name)[place] for (windows, _), place in zip(parts, place_N)])

    def of_windows(name: str) -> np.ndarray:
        return np.concatenate([getattr(windows, name)[index_W] for windows, index_W in parts])

    begin_W = offsets_of(of_windows("lengths_W"))
    return Windows(
        input_ids_N=of_tokens("input_ids_N"),
        token_type_ids_N=None if parts[0][0].token_type_ids_N is None else of_tokens("token_type_ids_N"),
        offset_start_N=of_tokens("offset_start_N"),
        offset_end_N=of_tokens("offset_end_N"),
        begin_W=begin_W,
        question_W=np.arange(len(begin_W) - 1, dtype=np.int32),
        context_begin_W=of_windows("context_begin_W"),
        context_end_W=of_windows("context_end_W"),
        null_W=of_windows("null_W"),
        start_W=of_windows("start_W"),
        end_W=of_windows("end_W"),
    )
