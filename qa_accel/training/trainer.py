"""The training loop: one optimizer step, then what is due.

See `build` for how a run is wired, `evaluator` for the best model, `export` for the final folder, `stop` for what ends a run early.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from rich.text import Text
from torch.optim.lr_scheduler import LambdaLR

from qa_accel import config, files, hub, shell_words
from qa_accel.batching import mode, plan
from qa_accel.batching.collate import Batch, batch_loader
from qa_accel.batching.mode import Collator
from qa_accel.data import splits
from qa_accel.data.named_sets import SetRows
from qa_accel.data.splits import Split
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import signals
from qa_accel.distributed.rank_status import RankStatus
from qa_accel.distributed.stop import SAVE, STOP, Stop, StopRequested
from qa_accel.evaluation import score_tables
from qa_accel.inference.answer_policy import CONFIG_KEY, THRESHOLD_KEY, AnswerPolicy
from qa_accel.reporting import requirements
from qa_accel.reporting.blocks import Report
from qa_accel.reporting.model_card import CardOfRun
from qa_accel.run_layout import BEST, PREDICTIONS, REPORT
from qa_accel.terminal import visible
from qa_accel.training import checkpoint, final_report
from qa_accel.training.compile import LossFunction
from qa_accel.training.epochs import EpochPlans
from qa_accel.training.evaluator import Evaluator
from qa_accel.training.export import KeptModel
from qa_accel.training.log import MetricsLog, NonFiniteLoss
from qa_accel.training.part_settings import CheckpointConfig, EvaluationConfig
from qa_accel.training.progress import Progress
from qa_accel.training.settings import TrainConfig
from qa_accel.training.stage_timer import StageTimer
from qa_accel.training.step import OptimizerStep


@dataclass(frozen=True)
class PlannedStep:
    """One optimizer step that is to come."""

    plan: np.ndarray
    """(accumulation, ranks, batch size): the step's windows on all ranks."""
    batches: list[Batch]
    """This rank's, one for each forward pass."""
    windows: int
    """Real ones, over all ranks."""
    tokens: int
    """Real ones, over all ranks."""
    computed_tokens: int
    """Padding included, over all ranks."""
    ends_epoch: bool
    number: int
    """Of the whole run, counted from 1."""


@dataclass
class Trainer:
    """A run in memory. Every method must be called by all ranks."""

    settings: TrainConfig
    timer: StageTimer
    where: str
    """Processes, device and precision, in words."""
    accelerator: Accelerator
    console: Console
    """Silent on all ranks but 0."""
    folder: Path
    """output_dir."""
    splits: dict[str, Split]
    model: torch.nn.Module
    """As accelerator.prepare returned it."""
    loss: LossFunction
    optimizer_step: OptimizerStep
    schedule: LambdaLR
    epochs: EpochPlans
    collate: Collator
    progress: Progress
    total_steps: int
    """Optimizer steps of the whole run."""
    fingerprint: dict[str, Any]
    """What makes a checkpoint one of this run."""
    metrics: MetricsLog
    kept: KeptModel
    evaluator: Evaluator | None
    """None without validation data."""
    stop: Stop
    rank_status: RankStatus
    scores: dict[str, Any] | None = None
    """Of the published model, on rank 0 of a run with validation data."""

    @property
    def checkpoints(self) -> CheckpointConfig:
        return self.settings.checkpoint

    @property
    def evaluation(self) -> EvaluationConfig:
        return self.settings.evaluation

    def train(self) -> None:
        """The loop: one optimizer step, then what is due. Raises StopRequested when all ranks have agreed to stop."""
        self.model.train()
        if self.progress.evaluation_due:  # the run was stopped right before an evaluation, or within it
            self.after_step(save=True)
        for step in self.planned_steps():
            learning_rate = float(self.schedule.get_last_lr()[0])
            result = self.optimizer_step(step.batches, windows=step.windows)
            self.schedule.step()
            self.progress.advance(self.accelerator.num_processes, step.windows, ends_epoch=step.ends_epoch)
            self.metrics.step(
                self.progress,
                step.plan,
                loss_parts=result.loss_parts,
                grad_norm=result.grad_norm,
                learning_rate=learning_rate,
                tokens=step.tokens,
                computed_tokens=step.computed_tokens,
            )
            is_last = step.ends_epoch or step.number == self.total_steps
            self.progress.evaluation_due = is_last or due(step.number, self.evaluation.eval_steps)
            self.after_step(save=is_last or due(step.number, self.checkpoints.save_steps))
        if self.progress.best_step is None:  # resumed at its end, and the best model is in another folder
            self.evaluate()

    def planned_steps(self) -> Iterator[PlannedStep]:
        """What is left of the run, up to its last step or to early stopping."""
        steps = chain.from_iterable(self.steps_of_epoch() for _ in count())
        left = islice(steps, max(0, self.total_steps - self.progress.step))
        return takewhile(lambda _: not self.progress.stopped_early, left)

    def steps_of_epoch(self) -> Iterator[PlannedStep]:
        """What is left of the epoch that `progress` is in.

        The step's process collates the batches: 0.3 ms each, while a GPU still works on what it was given. A loader process
        would take longer to hand the tensors over.
        """
        epoch_plan = self.epochs.rest_of_epoch(self.progress.epoch, self.progress.segments)
        if len(epoch_plan) == 0:  # resumed with other settings, under which all of the epoch is done
            self.progress.end_epoch()
            return
        batches = iter(
            batch_loader(
                self.collate,
                plan.rank_batches(epoch_plan, self.accelerator.process_index),
                pin_memory=self.accelerator.device.type == "cuda",
            )
        )
        lengths_W = self.epochs.lengths_W
        for left, step_plan in zip(range(len(epoch_plan), 0, -1), epoch_plan):
            yield PlannedStep(
                plan=step_plan,
                batches=list(islice(batches, len(step_plan))),
                windows=int((step_plan != plan.NOTHING).sum()),
                tokens=int(plan.batch_tokens(lengths_W, step_plan).sum()),
                computed_tokens=mode.computed_tokens(lengths_W, step_plan, self.collate),
                ends_epoch=left == 1,
                number=self.progress.step + 1,
            )

    def after_step(self, *, save: bool) -> None:
        """What is due: a stop, whose checkpoint remembers the rest; an evaluation; a checkpoint."""
        self.rank_status.heartbeat(self.progress.step)
        if self.optimizer_step.calls == 1:
            self.timer.end_stage("first step")  # mostly the compiler's time
        agreed = self.stop.poll()
        if agreed == STOP:
            raise StopRequested
        if self.progress.evaluation_due:
            self.evaluate()
            self.progress.evaluation_due = False
        if save or agreed == SAVE or self.progress.stopped_early:
            self.save()

    def evaluate(self) -> None:
        """Score the model as it is, and keep it if it is the best so far."""
        if self.evaluator is None:
            return
        self.metrics.flush()
        self.timer.end_stage("steps")
        self.evaluator.evaluate(self.metrics, self.stop.raise_if_stopped)
        self.timer.end_stage("evaluation")

    def save(self) -> Path:
        """Write a checkpoint of this step. A loss that is not finite ends the run here, before it is saved."""
        self.metrics.flush()
        self.timer.end_stage("steps")
        saved = checkpoint.save(
            self.folder, self.accelerator, self.progress, self.fingerprint, self.checkpoints.save_total_limit
        )
        seconds = self.timer.end_stage("saving")
        self.stop.saved(seconds)
        self.metrics.restart_clock()
        megabytes = files.megabytes(saved)
        self.console.print(f"{saved.name} saved in {seconds:.2f} s ({megabytes:.0f} MB)")
        return saved

    def save_and_exit(self) -> None:
        """Save what was done, and print who requested the stop. The same command continues the run."""
        saved = self.save() if self.progress.step else None
        requested = self.stop.write_marker(self.progress.step, saved)
        steps = f" at step {self.progress.step} of {self.total_steps}: "
        goes_on = ". The same command continues the run"
        self.console.print(Text.assemble(("stopped", "bold"), steps, visible(requested), goes_on))

    def publish(self) -> None:
        """Write the final folder."""
        if self.evaluator is None:
            self.kept.keep(None, None, AnswerPolicy(), self.progress.step)
        self.scores = self.kept.publish(
            self.progress, self.timer, self._model_card, kept_is_best=self.evaluation.load_best_model_at_end
        )

    def part(self) -> None:
        """All ranks must call; none needs another from here on. What rank 0 still does may take longer than they would wait.

        The folder is complete: SIGTERM ends the process again.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if threading.current_thread() is threading.main_thread():
            signals.listen(signals.BEFORE_TRAINING)

    def present(self) -> None:
        """Print the scores, write the report, give it to the trackers: on rank 0 alone."""
        if not self.accelerator.is_main_process:
            return
        page = None
        if self.scores is not None:
            predictions = json.loads((self.folder / PREDICTIONS).read_text(encoding="utf-8"))
            self.console.print(score_tables.samples_table(self.splits["validation"].questions, predictions))
            self.console.print(score_tables.scores_table(self.scores))
            if (sets := SetRows.of(self.splits["validation"].questions)) is not None:
                self.console.print(score_tables.sets_table(self.scores, sets.names))
            page = self._report()
        self.metrics.report(page, None if page is None else self.folder / REPORT, self.scores)
        self.timer.end_stage("report")
        seconds = f" after {self.timer.total:.0f} s ({self.timer}): "
        self.console.print(Text.assemble(("finished", "bold"), seconds, visible(self.folder)))

    def _report(self) -> Report | None:
        """Write report.html. The run has finished: what fails here is printed, and can be repeated."""
        reason = requirements.why_not(html=True)
        if reason is None:
            try:
                defaults = config.defaults(type(self.settings))
                return final_report.write_final_report(self.folder, self.splits["validation"], defaults)
            except Exception as error:  # whatever it is, the trained model must not count as failed for it
                reason = f"{type(error).__name__}: {error}"
        again = f"python scripts/report.py {shell_words.quoted(str(self.folder))}"
        self.console.print(visible(f"no {REPORT}: {reason}. Write it later with: {again}"))
        return None

    def push(self) -> None:
        """Upload the published folder if the settings ask for it, on rank 0 alone. Raises ValueError, with the folder complete."""
        if not self.settings.hub.push_to_hub or not self.accelerator.is_main_process:
            return
        self.console.print("uploading to the hub ...")
        try:
            pushed = hub.push(self.folder, self.settings.hub)
        except (ValueError, OSError) as error:
            raise ValueError(f"{error}. {self._how_to_push_again()}") from None
        self.console.print(f"uploaded {len(pushed.names)} files to {visible(pushed.repo_id)}: {visible(pushed.url)}")

    def _how_to_push_again(self) -> str:
        folder, flags = shell_words.quoted(str(self.folder)), shell_words.flags(config.changed(self.settings.hub))
        return f"The run has finished and {folder} is complete; upload it with: {' '.join(['python scripts/report.py', folder, *flags])}"

    def _model_card(self, scores: dict[str, Any] | None) -> str:
        kept = json.loads((self.folder / BEST / "config.json").read_text(encoding="utf-8"))
        card = CardOfRun(
            settings=config.as_dict(self.settings),
            changed=config.changed(self.settings),
            launch=f"{runtime.launch_line(self.accelerator)} scripts/train.py",
            where=self.where,
            data_report=splits.audit_as_dict(self.splits),
            scores=scores,
            stored_threshold=kept[CONFIG_KEY][THRESHOLD_KEY],
        )
        return card.text()

    def describe_bad_step(self, error: NonFiniteLoss) -> str:
        """The step whose loss was not finite, its questions, and what is left of the run."""
        train = self.splits["train"]
        rows = np.unique(train.windows.question_W[error.windows])
        ids = ", ".join(visible(train.questions[int(row)]["id"][:100]) for row in rows[:20])
        more = f" and {len(rows) - 20} more" if len(rows) > 20 else ""
        saved = checkpoint.checkpoints(self.folder)
        safe = f"{saved[-1]} is the last good state" if saved else "nothing was saved before it"
        return (
            f"training stopped at {error}; {safe}. Its batch held the questions {ids}{more}. "
            "Try a lower --learning_rate, more warm-up, or fp32 (accelerate launch --mixed_precision no)"
        )


def due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
