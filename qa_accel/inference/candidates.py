"""What the device finds of each window. Numpy only.

Axes: W windows, K spans of a window.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Candidates:
    """What the device found: of each window the null position's logits and its K best spans, as positions in the window."""

    null_start_W: np.ndarray
    """float32: start logit at the null position."""
    null_end_W: np.ndarray
    """float32: end logit at the null position."""
    lse_start_W: np.ndarray
    """float32: log of the sum of exp(start logit) over the context's tokens and the null position."""
    lse_end_W: np.ndarray
    """float32: the same of the end logits."""
    start_WK: np.ndarray
    """int32, first token; -1 where the window has fewer than K valid spans."""
    end_WK: np.ndarray
    """int32, last token, inclusive."""
    start_logit_WK: np.ndarray
    """float32"""
    end_logit_WK: np.ndarray
    """float32"""

    @property
    def null_W(self) -> np.ndarray:
        """float32: the null score, start logit + end logit at the null position."""
        return self.null_start_W + self.null_end_W


@dataclass(frozen=True)
class SeveralCandidates(Candidates):
    """What the device found if several answers are asked for."""

    apart: Candidates
    """The same windows with the K best spans that share no token in place of the K best."""
