"""Evaluates during training, keeps the best model, counts the evaluations without a gain."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from accelerate import Accelerator

from qa_accel.data.named_sets import SET
from qa_accel.data.splits import Split
from qa_accel.evaluation import scoring
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.postprocess import SpanConfig
from qa_accel.inference.predictor import PredictorConfig, answer_split
from qa_accel.inference.qa_model import QAModel
from qa_accel.ranges import COUNT, check_ranges
from qa_accel.training.export import KeptModel
from qa_accel.training.log import MetricsLog
from qa_accel.training.progress import Progress

BestModelMetric = Literal[
    "f1",
    "exact",
    "best_f1",
    "best_exact",
    "mean_f1",
    "mean_exact",
    "multi_exact_f1",
    "best_multi_exact_f1",
    "aupr",
]


@dataclass(frozen=True)
class EvaluationConfig:
    """All that decides about a run's evaluations, but for what an answer is (`SpanConfig`) and what the data are (`DataConfig`)."""

    eval_steps: int | None = None
    """Optimizer steps between evaluations; there is one at the end of each epoch in any case."""
    metric_for_best_model: BestModelMetric = "f1"
    """The score that decides which model is the best; best_* are those at the tuned no-answer threshold, mean_* those of
    named validation sets in which every set counts the same. With --answers all also multi_exact_f1, best_multi_exact_f1
    (at the tuned least score) and aupr."""
    load_best_model_at_end: bool = True
    """End with the best evaluated model rather than with the last one."""
    early_stopping_patience: int | None = None
    """Stop after this many evaluations in a row without a better score."""
    prediction: PredictorConfig = field(default_factory=PredictorConfig)

    def __post_init__(self):
        check_ranges(self, eval_steps=COUNT, early_stopping_patience=COUNT)


class Evaluator:
    """Evaluations of one run on its validation split. Every method must be called by all ranks."""

    def __init__(
        self,
        config: EvaluationConfig,
        spans: SpanConfig,
        accelerator: Accelerator,
        qa: QAModel,
        prepared_model: torch.nn.Module,
        split: Split,
        progress: Progress,
        kept: KeptModel,
        *,
        version_2_with_negative: bool,
        several: bool = False,
    ):
        """`qa`: the run's model before accelerator.prepare, for its batches; `prepared_model` is the one that is evaluated.
        `several`: a question may have several answers (--answers all)."""
        self.config, self.accelerator, self.model = config, accelerator, prepared_model
        self.split, self.progress, self.kept = split, progress, kept
        self.version_2_with_negative = version_2_with_negative
        if config.metric_for_best_model.startswith("mean_") and SET not in split.questions.column_names:
            raise ValueError(
                f"--metric_for_best_model {config.metric_for_best_model} is the mean over named sets; name them: "
                "--validation_file en=A.json de=B.json"
            )
        # a stored threshold belongs to the model before this training
        self.spans = AnswerPolicy().apply(spans, several=several)
        self.plan, self.collate = qa.evaluation_batches(split.windows, config.prediction.per_device_eval_batch_size)

    def evaluate(self, metrics: MetricsLog, each_batch: Callable[[], None]) -> None:
        """Score the model as it is, count patience, keep the model, calibrated, if it is the best so far.

        `each_batch` is called between batches, on all ranks; what it raises ends the evaluation without a trace.
        """
        answers = answer_split(
            self.accelerator,
            self.model,
            self.split,
            self.collate,
            self.plan,
            self.spans,
            version_2_with_negative=self.version_2_with_negative,
            done=lambda batches: each_batch(),
        )
        scores = None
        if answers is not None:
            threshold = self.spans.null_score_diff_threshold or 0.0
            scores = scoring.scores_of(
                answers,
                self.split,
                threshold,
                version_2_with_negative=self.version_2_with_negative,
                min_answer_score=self.spans.min_answer_score,
            )
        scores = scoring.broadcast_scores(scores)
        metrics.scores(self.progress, scores)
        metric = self.config.metric_for_best_model
        # no aupr without a gold answer: 0, as in CUAD's script
        better = self._count(scores.get(metric, scores.get(metric.removeprefix("best_"), 0.0)))
        if better or not self.config.load_best_model_at_end:
            policy = AnswerPolicy()
            if answers is not None:
                policy, figures = scoring.tuned_policy(
                    answers, scores, self.split, version_2_with_negative=self.version_2_with_negative
                )
                scores |= figures
            self.kept.keep(answers, scores, policy, self.progress.step)
        metrics.restart_clock()

    def _count(self, score: float) -> bool:
        """Whether this is the best score so far; otherwise patience is counted."""
        progress, patience = self.progress, self.config.early_stopping_patience
        if progress.best_score is None or score > progress.best_score:
            progress.best_score, progress.best_step, progress.evaluations_without_gain = score, progress.step, 0
            return True
        progress.evaluations_without_gain += 1
        progress.stopped_early = patience is not None and progress.evaluations_without_gain >= patience
        return False
