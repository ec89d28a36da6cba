"""What comes of a run: evaluations on the way, the model that is kept, and the final folder.

The model to keep is written whole to `best/` at the evaluation that chose it, with its predictions and scores; at the end
these files move into the run's folder. No weights are loaded back, so this is the same under every strategy.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel import config, files
from qa_accel.batching import mode as batching
from qa_accel.data import splits as prepare
from qa_accel.distributed import strategy
from qa_accel.evaluation import report
from qa_accel.evaluation import scoring as evaluation
from qa_accel.inference import postprocess as spans
from qa_accel.models import adapters as tuning
from qa_accel.models import loading as model
from qa_accel.training import checkpoint, log
from qa_accel.training.stage_timer import Clock

if TYPE_CHECKING:
    from qa_accel.training.trainer import TrainConfig

BEST = "best"


@dataclass(frozen=True)
class OutcomeConfig:
    metric_for_best_model: Literal["f1", "exact", "best_f1", "best_exact"] = "f1"
    """The score that decides which model is the best; best_* are those at the tuned no-answer threshold."""
    load_best_model_at_end: bool = True
    """End with the best evaluated model rather than with the last one."""


class Outcome:
    """Evaluates, remembers the best, and writes what the run leaves behind. Every method is for all ranks."""

    def __init__(
        self,
        settings: "TrainConfig",
        accelerator: Accelerator,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        prepared_model: torch.nn.Module,
        manner: batching.Batching,
        splits: dict[str, prepare.Split],
        progress: checkpoint.Progress,
    ):
        self.settings, self.accelerator, self.folder, self.progress = settings, accelerator, folder, progress
        self.tokenizer, self.model = tokenizer, prepared_model
        self.data_report = prepare.report_of(splits)
        self.dev = splits.get("validation")
        if self.dev is None:
            return
        self.negative = evaluation.has_unanswerable(settings.data, *splits.values())
        self.span_config = evaluation.with_threshold(settings.spans, None)
        plain: Any = accelerator.unwrap_model(prepared_model)
        self.plan, self.collate = manner.evaluation(
            self.dev.windows,
            tokenizer,
            plain,
            settings.predict.per_device_eval_batch_size,
            settings.windows.max_seq_length,
        )
        if progress.best_step is not None and not self._best_is_here():
            # the checkpoint came from another folder: the best model from here on has to do
            progress.best_score = progress.best_step = None

    def _best_is_here(self) -> bool:
        """Broadcast from rank 0, so that all ranks take the same branch."""
        box = [files.damage_of(self.folder / BEST) is None]
        broadcast_object_list(box)
        return box[0]

    def evaluate(self, journal: log.Log, each_batch: Callable[[], None]) -> None:
        """Score the model as it is, count patience, keep the model if it is the best so far.

        `each_batch` is called between batches, on all ranks; what it raises ends the evaluation without a trace.
        """
        if self.dev is None:
            return
        answers = evaluation.answer_split(
            self.accelerator,
            self.model,
            self.dev,
            self.collate,
            self.plan,
            self.span_config,
            version_2_with_negative=self.negative,
            done=lambda batches: each_batch(),
        )
        scores = None
        if answers is not None:
            threshold = self.span_config.null_score_diff_threshold or 0.0
            scores = evaluation.scores_of(answers, self.dev, threshold, version_2_with_negative=self.negative)
        scores = evaluation.shared_by_all(scores)
        progress, wanted = self.progress, self.settings.outcome
        journal.scores(progress, scores)
        score = scores.get(wanted.metric_for_best_model, scores[wanted.metric_for_best_model.removeprefix("best_")])
        better = progress.best_score is None or score > progress.best_score
        if better:
            progress.best_score, progress.best_step, progress.evaluations_without_gain = score, progress.step, 0
        else:
            progress.evaluations_without_gain += 1
            patience = self.settings.loop.early_stopping_patience
            progress.stopped_early = patience is not None and progress.evaluations_without_gain >= patience
        if better or not wanted.load_best_model_at_end:
            self._keep(answers, scores)
        journal.restart_clock()

    def publish(self, console: Console, where: str, clock: Clock) -> None:
        """Fill the run's folder: model, tokenizer, predictions, scores, card; `all_results.json` last, the sign of the end."""
        if self.dev is None:
            self._keep(None, None)
        if not self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
            return
        kept = self.folder / BEST
        scores, best_step = None, self.progress.best_step
        if self.dev is not None:
            there = json.loads((kept / "scores.json").read_text(encoding="utf-8"))
            scores = there["scores"]
            if self.settings.outcome.load_best_model_at_end:
                # progress may remember an older best one, whose files were replaced just before a kill
                best_step = there["step"]
        card = report.model_card(
            base=self.settings.model.model_name_or_path,
            scores=scores,
            settings=config.as_dict(self.settings),
            data_report=self.data_report,
            where=where,
        )
        files.write_text(self.folder / "README.md", card)
        for path in sorted(kept.iterdir()):
            if path.name not in (files.MANIFEST, "scores.json"):
                files.link_or_copy(path, self.folder / path.name)
        clock.ends("end")
        results = {
            **(scores or {}),
            "best_step": best_step,
            "steps": self.progress.step,
            "epochs": self.progress.epoch,
            "train_windows": self.progress.windows,
            "stopped_early": self.progress.stopped_early,
            "seconds": round(clock.total, 1),
            "seconds_of": {stage: round(seconds, 1) for stage, seconds in clock.seconds.items()},
        }
        files.write_json(self.folder / checkpoint.FINISHED, results)
        shutil.rmtree(kept)
        if scores is not None and self.dev is not None:
            predictions = json.loads((self.folder / "predictions.json").read_text(encoding="utf-8"))
            console.print(report.samples_table(self.dev.questions, predictions))
            console.print(report.scores_table(scores))
        console.print(f"[bold]finished[/] after {clock.total:.0f} s ({clock}): {self.folder}", highlight=False)
        self.accelerator.wait_for_everyone()

    def _keep(self, answers: spans.Answers | None, scores: dict[str, Any] | None) -> None:
        with checkpoint.atomic_folder(self.folder / BEST, self.accelerator) as partial:
            threshold = None
            if answers is not None and scores is not None:
                threshold = evaluation.tuned_threshold(answers, scores)
            merge = self.settings.tuning.merge_lora
            save_model(self.accelerator, self.model, self.tokenizer, partial, threshold, merge_lora=merge)
            if answers is not None:
                spans.write_answers(answers, partial)
                files.write_json(partial / "scores.json", {"scores": scores, "step": self.progress.step})


def save_model(
    accelerator: Accelerator,
    prepared_model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    threshold: float | None,
    *,
    merge_lora: bool = False,
) -> None:
    """Plain safetensors that AutoModelForQuestionAnswering loads anywhere, with tokenizer and no-answer threshold.

    Of a model with an adapter, the adapter alone unless it is to be merged.

    All ranks must call: gathering the weights is a collective where they are sharded.
    """
    weights = strategy.full_weights(accelerator, prepared_model)
    plain: Any = accelerator.unwrap_model(prepared_model, keep_torch_compile=False)
    setattr(plain.config, model.THRESHOLD_KEY, threshold)
    if not tuning.has_adapter(plain):
        plain.save_pretrained(
            folder,
            is_main_process=accelerator.is_main_process,
            state_dict=weights,
            save_original_format=False,  # else old checkpoints' LayerNorm.gamma comes back, which other tools do not load
        )
    elif accelerator.is_main_process:
        tuning.save(plain, weights, folder, merge=merge_lora)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(folder)
