"""The model that a run ends with: kept whole in `best/` during the run, published as the run's folder at its end.

`best/` is written at the evaluation that chose the model, with its predictions and scores; at the end its files move into
the run's folder. No weights are loaded back, so this is the same under every strategy.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel import files, hub
from qa_accel.distributed import strategy
from qa_accel.inference.answer_files import write_answers
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.postprocess import Answers
from qa_accel.models import adapters
from qa_accel.run_layout import BEST, ERROR_ANALYSIS, FINISHED, REPORT, SCORES_OF_BEST
from qa_accel.training.checkpoint import atomic_folder
from qa_accel.training.progress import Progress
from qa_accel.training.stage_timer import StageTimer


class KeptModel:
    """The best model so far, or the last one. Every method must be called by all ranks."""

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        prepared_model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        merge_lora: bool,
    ):
        """`folder`: the run's."""
        self.folder, self.accelerator, self.merge_lora = folder, accelerator, merge_lora
        self.model, self.tokenizer = prepared_model, tokenizer

    def damage(self) -> str | None:
        """What is wrong with what is kept, or None. Broadcast from rank 0, so that all ranks take the same branch."""
        box = [files.damage_of(self.folder / BEST)]
        broadcast_object_list(box)
        return box[0]

    def keep(self, answers: Answers | None, scores: dict[str, Any] | None, policy: AnswerPolicy, step: int) -> None:
        """Replace what is kept by the model as it is now, with rank 0's policy. `answers` are None on all ranks but 0, both
        without validation."""
        with atomic_folder(self.folder / BEST, self.accelerator) as partial:
            save_model(self.accelerator, self.model, self.tokenizer, partial, policy, merge_lora=self.merge_lora)
            if answers is not None:
                write_answers(answers, partial)
                files.write_json(partial / SCORES_OF_BEST, {"scores": scores, "step": step})

    def publish(
        self,
        progress: Progress,
        timer: StageTimer,
        model_card: Callable[[dict[str, Any] | None], str],
        *,
        kept_is_best: bool,
    ) -> dict[str, Any] | None:
        """Move the kept files into the run's folder, with a card made from their scores; `all_results.json` comes last.

        `kept_is_best`: the kept model is that of the best evaluation, not the last one. Returns the scores on rank 0 of a
        run with validation data, else None.
        """
        scores = None
        if self.accelerator.is_main_process:
            kept = self.folder / BEST
            published = [path for path in sorted(kept.iterdir()) if path.name not in (files.MANIFEST, SCORES_OF_BEST)]
            files.check_no_folders(self.folder, ["README.md", FINISHED, *(path.name for path in published)])
            best_step = progress.best_step
            if (kept / SCORES_OF_BEST).is_file():
                content = json.loads((kept / SCORES_OF_BEST).read_text(encoding="utf-8"))
                scores = content["scores"]
                if kept_is_best:
                    # progress may remember an older best one, whose files were replaced just before a kill
                    best_step = content["step"]
            for name in {*hub.files_of_a_model(self.folder), REPORT, ERROR_ANALYSIS} - {
                path.name for path in published
            }:
                if not (self.folder / name).is_dir():  # of an earlier run: an adapter would be loaded with this model
                    (self.folder / name).unlink(missing_ok=True)
            files.write_text(self.folder / "README.md", model_card(scores))
            for path in published:
                files.link_or_copy(path, self.folder / path.name)
            timer.end_stage("end")
            results = {
                **(scores or {}),
                "best_step": best_step,
                "steps": progress.step,
                "epochs": progress.epoch,
                "train_windows": progress.windows,
                "stopped_early": progress.stopped_early,
                "seconds": round(timer.total, 1),
                "seconds_of": {stage: round(seconds, 1) for stage, seconds in timer.seconds.items()},
            }
            files.write_json(self.folder / FINISHED, results)
            shutil.rmtree(kept)
        self.accelerator.wait_for_everyone()
        return scores


def save_model(
    accelerator: Accelerator,
    prepared_model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    policy: AnswerPolicy,
    *,
    merge_lora: bool = False,
) -> None:
    """Plain safetensors that AutoModelForQuestionAnswering loads anywhere, with tokenizer and answer policy.

    Of a model with an adapter, the adapter alone unless it is to be merged.

    All ranks must call: gathering the weights is a collective where they are sharded.
    """
    weights = strategy.full_weights(accelerator, prepared_model)
    plain: Any = strategy.unwrapped(accelerator, prepared_model)
    policy.store(plain.config)
    if not adapters.has_adapter(plain):
        plain.save_pretrained(
            folder,
            is_main_process=accelerator.is_main_process,
            state_dict=weights,
            save_original_format=False,  # else old checkpoints' LayerNorm.gamma comes back, which other tools do not load
        )
    elif accelerator.is_main_process:
        adapters.save(plain, weights, folder, merge=merge_lora)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(folder)
