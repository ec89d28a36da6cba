"""A recipe -> a fine-tuned model with its predictions and scores, on every process that accelerate started.

`run` is the way through; `train` is the loop. What happens once in a while (evaluation, best model, the final folder) stands
in `outcome`.
"""

import gc
import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from qa_accel import (
    batches,
    batching,
    checkpoint,
    config,
    files,
    log,
    model,
    optim,
    plan,
    prepare,
    report,
    runtime,
)
from qa_accel.batching import BatchingConfig
from qa_accel.checkpoint import CheckpointConfig
from qa_accel.compiled import CompileConfig, LossFunction
from qa_accel.data import DataConfig
from qa_accel.log import LogConfig
from qa_accel.model import ModelConfig
from qa_accel.optim import OptimConfig
from qa_accel.order import LoopConfig, Order
from qa_accel.outcome import Outcome, OutcomeConfig
from qa_accel.predict import EvalConfig
from qa_accel.runtime import RuntimeConfig
from qa_accel.spans import SpanConfig
from qa_accel.windows import WindowConfig, check_tokenizer


@dataclass(frozen=True)
class TrainConfig:
    model: ModelConfig
    checkpoint: CheckpointConfig
    data: DataConfig = field(default_factory=DataConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    compile: CompileConfig = field(default_factory=CompileConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    predict: EvalConfig = field(default_factory=EvalConfig)
    spans: SpanConfig = field(default_factory=SpanConfig)
    outcome: OutcomeConfig = field(default_factory=OutcomeConfig)
    log: LogConfig = field(default_factory=LogConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def run(settings: TrainConfig) -> None:
    """Train, evaluate, write `output_dir`. All ranks run this; rank 0 writes."""
    started = time.perf_counter()
    training = Run(settings)
    # what is there now stays: a full collection would stop the loop for a third of a second to find that out
    gc.collect()
    gc.freeze()
    with training.log:
        try:
            training.train()
        except log.NonFiniteLoss as error:
            raise ValueError(training.explanation(error)) from error
    if training.loss.compiled:
        training.console.print(f"compiled graphs: {training.loss.graphs}", highlight=False)
    where = runtime.describe(training.accelerator)
    training.outcome.publish(training.console, where, time.perf_counter() - started)


class Run:
    """What is made once for a run, and the loop over it."""

    def __init__(self, settings: TrainConfig):
        self.settings = settings
        self.accelerator = accelerator = runtime.make_accelerator(
            settings.runtime,
            gradient_accumulation_steps=settings.loop.gradient_accumulation_steps,
            bfloat16_where_fast=True,
            log_with=list(settings.log.report_to) or None,
            project_dir=settings.checkpoint.output_dir,
        )
        tokenizer = model.load_tokenizer(settings.model)
        model_config = model.load_model_config(settings.model, settings.windows.max_seq_length)
        check_tokenizer(tokenizer, settings.windows)
        self.folder = checkpoint.open_run(settings.checkpoint, accelerator)
        self.console = runtime.console(accelerator)
        report.announce(
            self.console,
            run=runtime.describe(accelerator),
            model=settings.model.model_name_or_path,
            output=str(self.folder),
        )
        with runtime.first_on_each_cache(accelerator):
            self.splits = prepare.prepare_splits(settings.data, settings.windows, tokenizer)
        self.console.print(prepare.report_table(self.splits))
        train_windows = self.splits["train"].windows

        manner = batching.choose(settings.batching, accelerator, model_config)
        self.order = Order(
            settings.loop,
            train_windows.lengths_W,
            seed=settings.runtime.seed,
            world_size=accelerator.num_processes,
            packed=manner.packed,
        )

        runtime.seed_everything(settings.runtime.seed)  # the head's first weights: alike on all ranks
        qa_model = manner.set_up(model.load_model(settings.model, model_config, tokenizer), training=True)
        self.loss = LossFunction(settings.compile, accelerator, qa_model, packed=manner.packed)
        report.announce(
            self.console,
            batches=f"{'packed' if manner.packed else 'padded'}: {manner.reason}",
            compile=self.loss.reason,
        )
        optimizer = optim.make_optimizer(qa_model, settings.optim)
        self.model, self.optimizer = accelerator.prepare(qa_model, optimizer)
        runtime.seed_everything(settings.runtime.seed, accelerator)  # dropout: another seed on each rank

        self.progress = checkpoint.Progress()
        self.identity = identity_of(settings, self.splits, packed=manner.packed)
        checkpoint.clear(settings.checkpoint, self.folder, accelerator)
        found = checkpoint.find(settings.checkpoint, self.folder, self.console.print)
        if found is not None:
            allow_changes = settings.checkpoint.resume_with_changed_settings
            checkpoint.load(found, accelerator, self.progress, self.identity, allow_changes=allow_changes)
            self.console.print(f"resumed from {found} (epoch {self.progress.epoch}, step {self.progress.step})")
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
        self.outcome = Outcome(
            settings, accelerator, self.folder, tokenizer, self.model, manner, self.splits, self.progress
        )

    def train(self) -> None:
        """The loop: one optimizer step, then what is due."""
        progress, loop, checkpoints = self.progress, self.settings.loop, self.settings.checkpoint
        self.model.train()
        while progress.step < self.total_steps and not progress.stopped_early:
            epoch_plan = self.order.rest_of_epoch(progress.epoch, progress.segments)
            for number, (step_plan, step_batches) in enumerate(self.steps(epoch_plan), start=1):
                learning_rate = float(self.schedule.get_last_lr()[0])
                real = int((step_plan != plan.NOTHING).sum())
                loss_sum, grad_norm = optimizer_step(
                    self.accelerator,
                    self.model,
                    self.loss,
                    self.optimizer,
                    self.schedule,
                    step_batches,
                    windows=real,
                    max_grad_norm=self.settings.optim.max_grad_norm,
                )
                progress.advance(self.accelerator.num_processes, real)
                self.log.step(
                    progress,
                    step_plan,
                    loss_sum=loss_sum,
                    grad_norm=grad_norm,
                    learning_rate=learning_rate,
                    tokens=int(plan.batch_tokens(self.order.lengths_W, step_plan).sum()),
                    slots=batching.slots(self.order.lengths_W, step_plan, self.collate),
                )
                over, last = number == len(epoch_plan), progress.step == self.total_steps
                if over:
                    progress.end_epoch()
                if over or last or due(progress.step, loop.eval_steps):
                    self.log.flush()
                    self.outcome.evaluate(self.log)
                if over or last or progress.stopped_early or due(progress.step, checkpoints.save_steps):
                    self.log.flush()  # a loss that is not finite ends the run here, before it is saved
                    checkpoint.save(
                        self.folder, self.accelerator, progress, self.identity, checkpoints.save_total_limit
                    )
                if last or progress.stopped_early:
                    break
        if progress.best_step is None:  # resumed at its end, and the best model is in another folder
            self.outcome.evaluate(self.log)

    def explanation(self, error: log.NonFiniteLoss) -> str:
        """The step that went wrong, its questions, and what is left of the run."""
        train = self.splits["train"]
        rows = np.unique(train.windows.question_W[error.windows])
        ids = ", ".join(train.questions[int(row)]["id"] for row in rows[:20])
        more = f" and {len(rows) - 20} more" if len(rows) > 20 else ""
        whole = checkpoint.checkpoints(self.folder)
        safe = f"{whole[-1]} is the last good state" if whole else "nothing was saved before it"
        return (
            f"training stopped at {error}; {safe}. Its batch held the questions {ids}{more}. "
            "Try a lower --learning_rate, more warm-up, or fp32 (accelerate launch --mixed_precision no)"
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


def optimizer_step(
    accelerator: Accelerator,
    model: torch.nn.Module,
    loss_function: LossFunction,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    step_batches: list[batches.Batch],
    *,
    windows: int,
    max_grad_norm: float,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sum of this rank's window losses and the gradient's norm before clipping, both still on the device.

    The gradient is that of the mean over all `windows` of the step, however they are spread over ranks and batches:
    accelerate divides by the accumulation and DDP by the ranks, so both are multiplied back.
    """
    scale = accelerator.num_processes * accelerator.gradient_accumulation_steps / windows
    loss_sum = torch.zeros((), device=accelerator.device)
    grad_norm = None
    for batch in step_batches:
        batch = batch.to(accelerator.device, non_blocking=True)
        with accelerator.accumulate(model):
            loss = loss_function(model, batch)
            accelerator.backward(loss * scale)
            loss_sum += loss.detach()
            if accelerator.sync_gradients:
                grad_norm = accelerator.clip_grad_norm_(model.parameters(), max_grad_norm or math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    schedule.step()
    return loss_sum, grad_norm


def due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def identity_of(settings: TrainConfig, splits: dict[str, prepare.Split], *, packed: bool) -> dict[str, Any]:
    """All that decides what a step computes, the number of ranks aside: a resume under another identity is another run."""
    train_windows = splits["train"].windows
    shape = hashlib.sha256()
    for array in (train_windows.begin_W, train_windows.start_W, train_windows.end_W):
        shape.update(np.ascontiguousarray(array).tobytes())
    chosen = ("model_name_or_path", "seed", "per_device_train_batch_size", "gradient_accumulation_steps")
    chosen += ("num_train_epochs", "max_train_steps", *config.settings_of(OptimConfig))
    flat = config.as_dict(settings)
    return {name: flat[name] for name in chosen} | {
        "batches": "packed" if packed else "padded",
        "training questions": splits["train"].questions._fingerprint,
        "training windows": shape.hexdigest()[:16],
    }
