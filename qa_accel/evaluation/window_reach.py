"""Windows and gold answers -> which questions' answers a prediction could give at all, and where windows begin and end.

All places are characters of the context.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from qa_accel.data.windows import Windows


class WindowReach:
    """Windows of the questions of a split, by the question's row."""

    def __init__(self, windows: Windows, rows: Sequence[int]):
        """`rows`: of the questions that are to be here, in their order."""
        self.windows = windows
        rows_Q = np.asarray(rows, np.int64)
        self.first_Q = np.searchsorted(windows.question_W, rows_Q)
        self.after_Q = np.searchsorted(windows.question_W, rows_Q, side="right")

    def __len__(self) -> int:
        """Windows of all these questions."""
        return int((self.after_Q - self.first_Q).sum())

    def of_rows(self, rows: Sequence[int]) -> "WindowReach":
        """Of these among its questions, in this order."""
        chosen = WindowReach(self.windows, [])
        chosen.first_Q, chosen.after_Q = self.first_Q[list(rows)], self.after_Q[list(rows)]
        return chosen

    def count(self, row: int) -> int:
        return int(self.after_Q[row] - self.first_Q[row])

    def borders(self, row: int) -> list[list[int]]:
        """[start, end] of each window's part of the context; windows without a token of the context are left out."""
        offsets = (self._offsets(window) for window in range(self.first_Q[row], self.after_Q[row]))
        return [[int(start_N[0]), int(end_N[-1])] for start_N, end_N in offsets if len(start_N)]

    def holds(self, row: int, begin: int, end: int, max_answer_length: int | None) -> bool:
        """Whether a window holds the characters [begin, end) whole, in at most so many tokens: as the labels of training have it."""
        first_W, after_W, start_N, end_N = self._tokens(row)
        covers_N = end_N > start_N
        behind, before = np.flatnonzero(covers_N & (end_N > begin)), np.flatnonzero(covers_N & (start_N < end))
        if begin >= end or not len(behind) or not len(before):
            return False
        first, last = int(behind[0]), int(before[-1])
        if first > last or (max_answer_length is not None and last - first >= max_answer_length):
            return False
        return bool(((first_W <= first) & (last < after_W)).any())

    def reaches(self, row: int, texts: Sequence[str], starts: Sequence[int], max_answer_length: int | None) -> bool:
        """Whether a prediction could be one of these gold answers; True for a question without any."""
        return not texts or any(
            self.holds(row, start, start + len(text), max_answer_length) for text, start in zip(texts, starts)
        )

    def _tokens(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The tokens of a context, each once: first of each window and the one after its last; start and end of each token."""
        pieces = [self._piece(window) for window in range(self.first_Q[row], self.after_Q[row])]
        lengths_W = np.array([piece.stop - piece.start for piece in pieces], np.int64)
        first_W = np.arange(len(pieces)) * (lengths_W.max(initial=0) - self._shared)
        own = [slice(piece.start + (self._shared if place else 0), piece.stop) for place, piece in enumerate(pieces)]
        windows = self.windows
        start_N, end_N = (
            np.concatenate([offset_N[tokens] for tokens in own])
            for offset_N in (windows.offset_start_N, windows.offset_end_N)
        )
        return first_W, first_W + lengths_W, start_N, end_N

    @cached_property
    def _shared(self) -> int:
        """Tokens that two neighbouring windows share (doc_stride), read off the first two of one question."""
        windows = self.windows
        pairs = np.flatnonzero(windows.question_W[1:] == windows.question_W[:-1])
        if not len(pairs):
            return 0
        columns = (windows.input_ids_N, windows.offset_start_N, windows.offset_end_N)
        left, right = (np.stack([column[self._piece(pairs[0] + place)] for column in columns]) for place in (0, 1))
        sizes = range(min(left.shape[1], right.shape[1]), 0, -1)
        return next((size for size in sizes if (left[:, -size:] == right[:, :size]).all()), 0)

    def _piece(self, window: int) -> slice:
        """The context's tokens in a window."""
        begin = int(self.windows.begin_W[window])
        return slice(begin + int(self.windows.context_begin_W[window]), begin + int(self.windows.context_end_W[window]))

    def _offsets(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the tokens of the context that cover a character."""
        tokens = self._piece(window)
        start_N, end_N = self.windows.offset_start_N[tokens], self.windows.offset_end_N[tokens]
        covers_N = end_N > start_N
        return start_N[covers_N], end_N[covers_N]
