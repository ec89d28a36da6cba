"""What the device finds of each window, and how much of it is asked for. Numpy only.

Axes: W windows, K spans of a window.
"""

from dataclasses import dataclass

import numpy as np

from qa_accel.ranges import COUNT, check_ranges


@dataclass(frozen=True)
class SpanConfig:
    n_best_size: int = 20
    """Spans kept per window, and listed per question in nbest_predictions.json; with several answers per question, also their
    greatest number."""
    max_answer_length: int = 30
    """Longest answer, in tokens."""
    null_score_diff_threshold: float | None = None
    """Null odds above which a question is answered with "", where the data has unanswerable questions. Not given: 0, that
    is, where "no answer" scores higher than the best span; or the model's own, where one was tuned and stored with it. inf:
    never; -inf: always."""
    min_answer_score: float | None = None
    """With --answers all, the least score of a listed answer, 0 to 1: probability of its start times that of its end in its
    window, "no answer" among the alternatives. Not given: the model's own, where one was tuned and stored with it, else 0.1."""

    def __post_init__(self):
        check_ranges(self, n_best_size="[1, 10000]", max_answer_length=COUNT, null_score_diff_threshold="[-inf, inf]")
        check_ranges(self, min_answer_score="[0, 1]")

    @property
    def several(self) -> bool:
        """Whether several answers are asked for: the settings that post-processing gets have a least score only then."""
        return self.min_answer_score is not None


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
