"""Evaluates during training, keeps the best model, counts the evaluations without a gain."""

from collections.abc import Callable

import torch
from accelerate import Accelerator

from qa_accel.data.named_sets import SET
from qa_accel.data.splits import Split
from qa_accel.evaluation import scoring
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.predictor import answer_split
from qa_accel.inference.qa_model import QAModel
from qa_accel.inference.settings import SpanConfig
from qa_accel.training.export import KeptModel
from qa_accel.training.log import MetricsLog
from qa_accel.training.part_settings import EvaluationConfig
from qa_accel.training.progress import Progress


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
        batch_size = config.prediction.batch_size(accelerator.device.type)
        self.plan, self.collate = qa.evaluation_batches(split.windows, batch_size)

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
