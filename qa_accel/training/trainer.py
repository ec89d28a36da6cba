"""A recipe -> a fine-tuned model with its predictions and scores, on every process that accelerate started.

`run` is the way through; `train` is the loop. What happens once in a while (evaluation, best model, the final folder) stands
in `outcome`, what ends it before its time in `stop`.
"""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from qa_accel import config, files, manifest
from qa_accel.batching import collate as batches
from qa_accel.batching import mode as batching
from qa_accel.batching import plan
from qa_accel.batching.mode import BatchingConfig
from qa_accel.data import splits as prepare
from qa_accel.data.questions import DataConfig
from qa_accel.data.window_cache import WindowConfig, check_tokenizer
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import strategy
from qa_accel.distributed.accelerator import RuntimeConfig
from qa_accel.distributed.rank_status import LastSigns
from qa_accel.distributed.stop import SAVE, STOP, Stop, StopConfig, StopRequested, exit_code
from qa_accel.evaluation import report
from qa_accel.inference.postprocess import SpanConfig
from qa_accel.inference.predictor import EvalConfig
from qa_accel.models import adapters as tuning
from qa_accel.models import architectures
from qa_accel.models import loading as model
from qa_accel.models.adapters import TuningConfig
from qa_accel.models.loading import ModelConfig
from qa_accel.training import checkpoint, log, optim
from qa_accel.training import run_fingerprint as identity
from qa_accel.training.checkpoint import CheckpointConfig
from qa_accel.training.compile import CompileConfig, LossFunction
from qa_accel.training.epochs import LoopConfig, Order
from qa_accel.training.evaluator import Outcome, OutcomeConfig
from qa_accel.training.log import LogConfig
from qa_accel.training.optim import OptimConfig
from qa_accel.training.stage_timer import Clock
from qa_accel.training.step import Step


@dataclass(frozen=True)
class TrainConfig:
    model: ModelConfig
    checkpoint: CheckpointConfig
    data: DataConfig = field(default_factory=DataConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    compile: CompileConfig = field(default_factory=CompileConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    predict: EvalConfig = field(default_factory=EvalConfig)
    spans: SpanConfig = field(default_factory=SpanConfig)
    outcome: OutcomeConfig = field(default_factory=OutcomeConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    log: LogConfig = field(default_factory=LogConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def run(settings: TrainConfig, clock: Clock | None = None) -> int:
    """Train, evaluate, write `output_dir`. All ranks run this; rank 0 writes. Returns the exit code.

    `clock`: one that has run since the process began.
    """
    clock = clock or Clock()
    training = Run(settings, clock)
    # what is there now stays: a full collection would stop the loop for a third of a second to find that out
    gc.collect()
    gc.freeze()
    stopped = False
    try:
        with training.log:
            try:
                training.train()
            except StopRequested:
                stopped = True
                training.leave()
        training.stop.close()
        if training.loss.compiled:
            training.console.print(f"compiled graphs: {training.loss.graphs}", highlight=False)
        if not stopped:
            training.outcome.publish(training.console, runtime.describe(training.accelerator), clock)
    except log.NonFiniteLoss as error:
        training.last_signs.failed(error)
        raise ValueError(report.bad_step(error, training.splits["train"], training.folder)) from error
    except BaseException as error:
        training.last_signs.failed(error)
        raise
    training.last_signs.ended()
    return exit_code() if stopped else 0


class Run:
    """What is made once for a run, and the loop over it."""

    def __init__(self, settings: TrainConfig, clock: Clock):
        self.settings, self.clock = settings, clock
        self.accelerator = accelerator = runtime.make_accelerator(
            settings.runtime,
            gradient_accumulation_steps=settings.loop.gradient_accumulation_steps,
            bfloat16_where_fast=True,
            training=True,
            log_with=list(settings.log.report_to) or None,
            project_dir=settings.checkpoint.output_dir,
        )
        tokenizer = model.load_tokenizer(settings.model)
        model_config = model.load_model_config(settings.model, settings.windows.max_seq_length, tokenizer)
        check_tokenizer(tokenizer, settings.windows)
        manner = batching.choose(settings.batching, accelerator, model_config, training=True)
        self.folder = checkpoint.open_run(settings.checkpoint, accelerator)
        self.console = runtime.console(accelerator)
        report.announce(
            self.console,
            run=runtime.describe(accelerator),
            model=settings.model.model_name_or_path,
            tokens=architectures.describe_tokens(tokenizer, model_config, model.padding_id(tokenizer)),
            output=str(self.folder),
        )
        clock.ends("start")
        with runtime.first_on_each_cache(accelerator):
            self.splits = prepare.prepare_splits(settings.data, settings.windows, tokenizer)
        self.console.print(prepare.report_table(self.splits))
        train_windows = self.splits["train"].windows
        clock.ends("data")

        self.order = Order(
            settings.loop,
            train_windows.lengths_W,
            seed=settings.runtime.seed,
            world_size=accelerator.num_processes,
            packed=manner.packed,
        )

        runtime.seed_everything(settings.runtime.seed)  # the head's first weights: alike on all ranks
        qa_model = manner.set_up(model.load_model(settings.model, model_config, tokenizer))
        trained = tuning.apply(qa_model, settings.tuning)
        self.loss = LossFunction(settings.compile, accelerator, qa_model, packed=manner.packed)
        report.announce(
            self.console,
            batches=f"{'packed' if manner.packed else 'padded'}: {manner.reason}",
            trained=trained,
            compile=self.loss.reason,
        )
        optimizer = optim.make_optimizer(qa_model, settings.optim)
        batch_size, max_grad_norm = settings.loop.per_device_train_batch_size, settings.optim.max_grad_norm
        strategy.fit(accelerator, qa_model, batch_size=batch_size, max_grad_norm=max_grad_norm)
        self.model, self.optimizer = accelerator.prepare(qa_model, optimizer)
        runtime.seed_everything(settings.runtime.seed, accelerator)  # dropout: another seed on each rank

        self.progress = checkpoint.Progress()
        self.identity = identity.of_run(settings, self.splits, packed=manner.packed)
        checkpoint.clear(settings.checkpoint, self.folder, accelerator)
        found = checkpoint.find(settings.checkpoint, self.folder, self.console.print)
        if found is not None:
            allow_changes = settings.checkpoint.resume_with_changed_settings
            checkpoint.load(found, accelerator, self.progress, self.identity, allow_changes=allow_changes)
            self.console.print(f"resumed from {found} (epoch {self.progress.epoch}, step {self.progress.step})")
            if accelerator.is_main_process:
                checkpoint.rotate(self.folder, found, settings.checkpoint.save_total_limit)
        if accelerator.is_main_process:  # not before: a resume that is refused leaves the folder as it is
            files.write_text(self.folder / "config.yaml", config.dump(settings))
            files.write_json(self.folder / "data_report.json", prepare.report_of(self.splits))
        longest = settings.windows.max_seq_length
        self.collate = manner.collator(train_windows, tokenizer, qa_model, self.order.plans(self.progress), longest)
        self.total_steps = self.order.total_steps(self.progress)
        self.schedule = optim.make_schedule(self.optimizer, settings.optim, self.total_steps, self.progress.step)
        self.log = log.Log(
            accelerator,
            self.console,
            self.folder / "metrics.jsonl",
            settings.log,
            settings=config.as_dict(settings),
            total_steps=self.total_steps,
            first_step=self.progress.step,
            epoch_windows=len(train_windows),
        )
        self.step = Step(
            accelerator,
            self.model,
            self.loss,
            self.optimizer,
            max_grad_norm=max_grad_norm,
            capture=self.loss.whole_step,
        )
        self.outcome = Outcome(
            settings, accelerator, self.folder, tokenizer, self.model, manner, self.splits, self.progress
        )
        save_minutes, timeout = settings.checkpoint.save_minutes, settings.runtime.ddp_timeout
        self.stop = Stop(settings.stop, accelerator, self.folder, timeout, save_minutes)
        self.last_signs = LastSigns(self.folder, accelerator)
        clock.ends("model")

    def train(self) -> None:
        """The loop: one optimizer step, then what is due. Raises StopRequested when all ranks have agreed to leave."""
        progress, loop, checkpoints = self.progress, self.settings.loop, self.settings.checkpoint
        self.model.train()
        if progress.evaluation_due:  # the run was stopped before its end, or in the middle of it
            self.between_steps(save=True)
        while progress.step < self.total_steps and not progress.stopped_early:
            epoch_plan = self.order.rest_of_epoch(progress.epoch, progress.segments)
            for number, (step_plan, step_batches) in enumerate(self.steps(epoch_plan), start=1):
                learning_rate = float(self.schedule.get_last_lr()[0])
                real = int((step_plan != plan.NOTHING).sum())
                result = self.step(step_batches, windows=real)
                if self.step.steps == 1:
                    self.clock.ends("first step")  # the compiler's time, mostly
                self.schedule.step()
                progress.advance(self.accelerator.num_processes, real)
                self.last_signs.at(progress.step)
                self.log.step(
                    progress,
                    step_plan,
                    loss_parts=result.loss_parts,
                    grad_norm=result.grad_norm,
                    learning_rate=learning_rate,
                    tokens=int(plan.batch_tokens(self.order.lengths_W, step_plan).sum()),
                    slots=batching.slots(self.order.lengths_W, step_plan, self.collate),
                )
                over, last = number == len(epoch_plan), progress.step == self.total_steps
                if over:
                    progress.end_epoch()
                progress.evaluation_due = over or last or due(progress.step, loop.eval_steps)
                self.between_steps(save=over or last or due(progress.step, checkpoints.save_steps))
                if last or progress.stopped_early:
                    break
        if progress.best_step is None:  # resumed at its end, and the best model is in another folder
            self.evaluate()

    def between_steps(self, *, save: bool) -> None:
        """What is due: a stop, which saves what is left to do too; an evaluation; a checkpoint."""
        agreed = self.stop.poll()
        if agreed == STOP:
            raise StopRequested
        if self.progress.evaluation_due:
            self.evaluate()
            self.progress.evaluation_due = False
        if save or agreed == SAVE or self.progress.stopped_early:
            self.save()

    def evaluate(self) -> None:
        """Score the model as it is, and keep it if it is the best so far. All ranks must call."""
        self.log.flush()
        self.clock.ends("steps")
        self.outcome.evaluate(self.log, self.stop.check)
        self.clock.ends("evaluation")

    def save(self) -> Path:
        """Write a checkpoint of this step. A loss that is not finite ends the run here, before it is saved."""
        self.log.flush()
        self.clock.ends("steps")
        keep = self.settings.checkpoint.save_total_limit
        saved = checkpoint.save(self.folder, self.accelerator, self.progress, self.identity, keep)
        seconds = self.clock.ends("saving")
        self.stop.saved(seconds)
        self.log.restart_clock()
        self.console.print(
            f"{saved.name} saved in {seconds:.2f} s ({manifest.megabytes(saved):.0f} MB)", highlight=False
        )
        return saved

    def leave(self) -> None:
        """Save what was done, say that the run is to be started again. All ranks must call."""
        saved = self.save() if self.progress.step else None
        asked = self.stop.leave(self.progress.step, saved)
        if self.accelerator.is_main_process:
            self.console.print(
                f"[bold]stopped[/] at step {self.progress.step} of {self.total_steps}: {asked}. "
                "The same command goes on from there",
                highlight=False,
            )

    def steps(self, epoch_plan: np.ndarray) -> Iterator[tuple[np.ndarray, list[batches.Batch]]]:
        """Each optimizer step's plan and this rank's batches for it.

        The step's process puts them together: 0.3 ms a batch, while a GPU still works on what it was given. A loader process
        would take longer to hand the tensors over.
        """
        loader = batches.batch_loader(
            self.collate,
            plan.rank_batches(epoch_plan, self.accelerator.process_index),
            pin_memory=self.accelerator.device.type == "cuda",
        )
        ready = iter(loader)
        for step_plan in epoch_plan:
            yield step_plan, list(islice(ready, len(step_plan)))


def due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
