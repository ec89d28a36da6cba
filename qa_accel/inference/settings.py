"""The settings of prediction: what computes, in which batches, and what an answer is."""

from dataclasses import dataclass
from typing import Literal

from qa_accel.ranges import COUNT, check_ranges

Backend = Literal["torch", "onnx"]


def usual_batch_size(backend: Backend, device: str) -> int:
    """Windows per forward pass where no number is given. `device`: its type, as torch names it."""
    if backend == "onnx":
        return 2
    return 8 if device == "cpu" else 32  # larger ones outgrow the caches of a CPU


@dataclass(frozen=True)
class PredictorConfig:
    per_device_eval_batch_size: int | None = None
    """Windows per process and forward pass in evaluation and prediction. Not given: 8 on a CPU, whose caches larger batches
    outgrow, 2 with the backend onnx, else 32."""

    def __post_init__(self):
        check_ranges(self, per_device_eval_batch_size=COUNT)

    def batch_size(self, device: str, backend: Backend = "torch") -> int:
        """`device`: its type, as torch names it."""
        return self.per_device_eval_batch_size or usual_batch_size(backend, device)


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
