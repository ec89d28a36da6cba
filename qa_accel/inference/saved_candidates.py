"""Saved logits and their windows -> candidates, as the model's own pass gives them. Numpy only, no torch.

From a file in float32 they are the pass's to the bit: spans are ordered by the same rule on every device, and the file has
the device's normalisers. From one in float16 they are those of the rounded logits.
"""

import numpy as np

from qa_accel.data.logit_file import SavedLogits
from qa_accel.data.windows import Windows
from qa_accel.inference.postprocess import Candidates
from qa_accel.inference.settings import SpanConfig
from qa_accel.inference.window_rows import WindowRows, columns, fill_row, normalisers

WINDOWS_AT_ONCE = 1024


def candidates_of(saved: SavedLogits, windows: Windows, config: SpanConfig) -> Candidates:
    """The n best spans and the null score of each window. The logits of one window are in memory at a time."""
    assert np.array_equal(saved.begin_W, windows.begin_W), "the logits are those of these windows"
    found = WindowRows(len(windows), config)
    rows_BC = np.empty((WINDOWS_AT_ONCE, columns(config)), np.int32)
    for first in range(0, len(windows), WINDOWS_AT_ONCE):
        count = min(WINDOWS_AT_ONCE, len(windows) - first)
        for b in range(count):
            _fill(rows_BC[b], saved, windows, first + b, config)
        found.place(rows_BC[:count])
    return found.candidates()


def _fill(row_C: np.ndarray, saved: SavedLogits, windows: Windows, w: int, config: SpanConfig) -> None:
    tokens = slice(windows.begin_W[w], windows.begin_W[w + 1])
    start_L, end_L = (logits_N[tokens].astype(np.float32) for logits_N in (saved.start_N, saved.end_N))
    null = int(windows.null_W[w])
    context_L = np.zeros(len(start_L), bool)
    context_L[windows.context_begin_W[w] : windows.context_end_W[w]] = True
    if saved.lse_start_W is None or saved.lse_end_W is None:
        lse = normalisers(start_L, end_L, context_L, null)
    else:
        lse = (saved.lse_start_W[w], saved.lse_end_W[w])
    fill_row(row_C, w, start_L, end_L, context_L, null, lse, config)
