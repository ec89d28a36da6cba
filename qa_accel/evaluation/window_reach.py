"""Windows and gold answers -> which questions' answers a prediction could give at all, and where windows begin and end.

All places are characters of the context.
"""

from collections.abc import Sequence

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
        """Whether a window holds the characters [begin, end) whole, in at most so many tokens."""
        left, right = self.first_Q[row], self.after_Q[row] - 1
        for window in range(left, right + 1):
            start_N, end_N = self._offsets(window)
            covering = np.flatnonzero((end_N > begin) & (start_N < end))
            if not len(covering) or begin >= end:
                continue
            first, last = covering[0], covering[-1]
            # the answer's first token is this window's first: then more of the answer may be in the window before
            begins_here = start_N[first] <= begin or first > 0 or window == left
            ends_here = end_N[last] >= end or last < len(end_N) - 1 or window == right
            whole = begins_here and ends_here
            if whole and (max_answer_length is None or last - first < max_answer_length):
                return True
        return False

    def reaches(self, row: int, texts: Sequence[str], starts: Sequence[int], max_answer_length: int | None) -> bool:
        """Whether a prediction could be one of these gold answers; True for a question without any."""
        return not texts or any(
            self.holds(row, start, start + len(text), max_answer_length) for text, start in zip(texts, starts)
        )

    def _offsets(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the tokens of the context that cover a character."""
        windows, begin = self.windows, int(self.windows.begin_W[window])
        tokens = slice(begin + int(windows.context_begin_W[window]), begin + int(windows.context_end_W[window]))
        start_N, end_N = windows.offset_start_N[tokens], windows.offset_end_N[tokens]
        covers_N = end_N > start_N
        return start_N[covers_N], end_N[covers_N]
