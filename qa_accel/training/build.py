"""Settings -> a run that is ready for its next step: each line returns what the next ones take."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console

from qa_accel import config, files, hub
from qa_accel.data import named_sets, splits
from qa_accel.data.named_sets import SetRows
from qa_accel.data.splits import prepare_splits
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import environment, gradient_sums, run_folder, strategy
from qa_accel.distributed.rank_status import RankStatus
from qa_accel.distributed.stop import Stop
from qa_accel.inference.qa_model import QAModel, QATask, load_task
from qa_accel.models import adapters, architectures, loading
from qa_accel.reporting import trackers
from qa_accel.run_layout import BEST, DATA_REPORT, METRICS, SETTINGS
from qa_accel.terminal import visible
from qa_accel.training import checkpoint, distillation, model_checks, optim, restoring
from qa_accel.training.checkpoint import run_fingerprint
from qa_accel.training.compile import LossFunction
from qa_accel.training.epochs import EpochPlans, few_answers, windows_of_epochs
from qa_accel.training.evaluator import Evaluator
from qa_accel.training.export import KeptModel
from qa_accel.training.log import MetricsLog
from qa_accel.training.progress import Progress
from qa_accel.training.settings import TrainConfig
from qa_accel.training.stage_timer import StageTimer
from qa_accel.training.step import OptimizerStep
from qa_accel.training.trainer import Trainer


def build(settings: TrainConfig, timer: StageTimer) -> Trainer:
    """A run that is ready for its next step, resumed where its folder or the settings say so. All ranks must call.

    Whatever can be refused early, is: settings and processes, then tokenizer and model config, then data, then weights.
    """
    accelerator = runtime.make_accelerator(
        settings.runtime,
        gradient_accumulation_steps=settings.loop.gradient_accumulation_steps,
        bfloat16_where_fast=True,
        training=True,
        log_with=list(settings.log.report_to) or None,
        project_dir=settings.checkpoint.output_dir,
    )
    console = runtime.console(accelerator)
    if (warning := gradient_sums.check(settings.gradient_sums, accelerator)) is not None:
        console.print(f"warning: {warning}")
    task = load_task(
        settings.model,
        settings.windows,
        settings.batching,
        **strategy.placement(accelerator),
        training=True,
    )
    teachers = model_checks.teachers_of(
        settings.distillation, settings.layers, settings.model, settings.windows, task.tokenizer, task.config
    )
    overwrite = settings.checkpoint.overwrite_output_dir
    folder = run_folder.open_run(settings.checkpoint.output_dir, accelerator, overwrite=overwrite)
    _check_hub(settings, accelerator, folder)
    where = runtime.describe(accelerator, bfloat16_where_fast=True)
    runtime.announce(
        console,
        run=where,
        model=settings.model.model_name_or_path,
        tokens=architectures.describe_tokens(task.tokenizer, task.config, loading.padding_id(task.tokenizer)),
        output=str(folder),
    )
    faster = runtime.faster_launch(accelerator, settings.loop.per_device_train_batch_size)
    if faster is not None:
        console.print(f"a process per core is faster here: {visible(faster)} ...")
    timer.end_stage("start")
    with runtime.first_on_each_cache(accelerator) as first:
        prepared_splits = prepare_splits(
            settings.data,
            settings.windows,
            task.tokenizer,
            max_answer_length=settings.spans.max_answer_length,
            check_cache=first,
        )
    chosen, prepared_splits["train"] = windows_of_epochs(
        settings.loop,
        prepared_splits["train"],
        settings.runtime.seed,
        named_sets.weights_of(settings.data.train_file, "train_file"),
    )
    console.print(splits.audit_table(prepared_splits))
    if (warning := few_answers(settings.loop, chosen)) is not None:
        console.print(f"warning: {warning}")
    windows = prepared_splits["train"].windows
    timer.end_stage("data")
    if teachers:
        windows = distillation.with_teachers(
            settings.distillation,
            teachers,
            accelerator,
            console,
            prepared_splits["train"],
            settings.windows,
            settings.data,
            settings.evaluation.prediction.batch_size(accelerator.device.type),
        )
        timer.end_stage("teacher")

    epochs = EpochPlans(
        settings.loop,
        windows.lengths_W,
        seed=settings.runtime.seed,
        world_size=accelerator.num_processes,
        packed=task.mode.packed,
        windows=chosen,
    )
    qa, loss = _build_model(settings, task, accelerator, console)
    model, optimizer, embedding_sums = gradient_sums.prepare(
        accelerator,
        qa.model,
        optim.make_optimizer(qa.model, settings.optim),
        settings.gradient_sums,
        settings.runtime.ddp_timeout,
    )
    runtime.seed_everything(settings.runtime.seed, accelerator)  # dropout: another seed on each rank

    fingerprint = run_fingerprint(
        config.as_dict(settings), prepared_splits["train"].questions, windows, packed=task.mode.packed
    )

    def start_trackers(first_step: int) -> None:
        flat, project = config.as_dict(settings), settings.log.project_name
        _on_rank_0(accelerator, lambda: trackers.start(accelerator, project, flat, folder, first_step))

    if overwrite:  # before the former results are deleted: a tracker that cannot be started must not cost them
        start_trackers(0)
    progress = _resume(settings, accelerator, folder, fingerprint, console)
    if not overwrite:
        start_trackers(progress.step)
    if accelerator.is_main_process:  # not before: a resume that is refused leaves the folder as it is
        files.write_text(folder / SETTINGS, config.dump(settings))
        files.write_json(folder / DATA_REPORT, splits.audit_as_dict(prepared_splits))
        environment.write(folder, accelerator, where, launch=runtime.launch_line(accelerator), first_step=progress.step)

    collate = task.mode.collator(windows, task.tokenizer, qa.inputs, epochs.plans(progress), qa.max_seq_length)
    total_steps = epochs.total_steps(progress)
    schedule = optim.make_schedule(optimizer, settings.optim, total_steps, progress.step)
    sets = SetRows.of(prepared_splits["train"].questions)
    metrics = MetricsLog(
        accelerator,
        console,
        folder / METRICS,
        settings.log,
        total_steps=total_steps,
        first_step=progress.step,
        epoch_windows=epochs.windows_per_epoch,
        sets=None if sets is None else sets.of_rows(windows.question_W),
    )
    optimizer_step = OptimizerStep(
        accelerator,
        model,
        loss,
        optimizer,
        max_grad_norm=settings.optim.max_grad_norm,
        capture=loss.whole_step,
        embedding_sums=embedding_sums,
    )
    kept = KeptModel(folder, accelerator, model, task.tokenizer, merge_lora=settings.tuning.merge_lora)
    evaluator = None
    if progress.best_step is not None and (damage := kept.damage()) is not None:
        # or the checkpoint came from another folder
        console.print(
            f"{visible(folder / BEST)}: {visible(damage)}: the best model so far, of step {progress.best_step}, is lost; "
            "the run keeps the best one from here on"
        )
        progress.best_score = progress.best_step = None
    if "validation" in prepared_splits:
        evaluator = Evaluator(
            settings.evaluation,
            settings.spans,
            accelerator,
            qa,
            model,
            prepared_splits["validation"],
            progress,
            kept,
            version_2_with_negative=splits.version_2_with_negative(settings.data, *prepared_splits.values()),
            several=settings.data.answers == "all",
        )
    stop = Stop(settings.stop, accelerator, folder, settings.runtime.ddp_timeout, settings.checkpoint.save_minutes)
    rank_status = RankStatus(folder, accelerator)
    timer.end_stage("model")
    return Trainer(
        settings=settings,
        timer=timer,
        where=where,
        accelerator=accelerator,
        console=console,
        folder=folder,
        splits=prepared_splits,
        model=model,
        loss=loss,
        optimizer_step=optimizer_step,
        schedule=schedule,
        epochs=epochs,
        collate=collate,
        progress=progress,
        total_steps=total_steps,
        fingerprint=fingerprint,
        metrics=metrics,
        kept=kept,
        evaluator=evaluator,
        stop=stop,
        rank_status=rank_status,
    )


def _check_hub(settings: TrainConfig, accelerator: Accelerator, folder: Path) -> None:
    """Raises ValueError, on all ranks, for a push that would fail after the training. Rank 0 asks the hub."""
    if settings.hub.push_to_hub and settings.tuning.lora_r and not settings.tuning.merge_lora:
        hub.check_adapter(settings.model.model_name_or_path)
    _on_rank_0(accelerator, lambda: hub.check(settings.hub, folder))


def _on_rank_0(accelerator: Accelerator, function: Callable[[], None]) -> None:
    """Call it on rank 0; its ValueError is raised on all ranks, which must all call."""
    box = [None]
    if accelerator.is_main_process:
        try:
            function()
        except ValueError as error:
            box = [str(error)]
    broadcast_object_list(box)
    if box[0] is not None:
        raise ValueError(box[0])


def _build_model(
    settings: TrainConfig, task: QATask, accelerator: Accelerator, console: Console
) -> tuple[QAModel, LossFunction]:
    """Weights, adapter and loss, ready for accelerator.prepare."""
    runtime.seed_everything(settings.runtime.seed)  # the head's first weights: the same on all ranks
    kept = settings.layers.keep_layers
    # layers are chosen from whole weights; ZeRO-3 splits those of the cut model afterwards
    with nullcontext() if kept is None else strategy.loading_whole(accelerator):
        qa = task.load_model(trained=False, keep_layers=kept)
    trained = adapters.apply(qa.model, settings.tuning)
    loss = LossFunction(
        settings.compile, accelerator, qa.model, packed=task.mode.packed, distillation=settings.distillation.term
    )
    runtime.announce(
        console,
        batches=f"{'packed' if task.mode.packed else 'padded'}: {task.mode.reason}",
        trained=trained,
        compile=loss.reason,
    )
    strategy.configure_for_model(
        accelerator,
        qa.model,
        batch_size=settings.loop.per_device_train_batch_size,
        max_grad_norm=settings.optim.max_grad_norm,
    )
    return qa, loss


def _resume(
    settings: TrainConfig, accelerator: Accelerator, folder: Path, fingerprint: dict[str, Any], console: Console
) -> Progress:
    """Restore the checkpoint to resume from, if there is one, into what accelerator.prepare returned."""
    progress, checkpoints = Progress(), settings.checkpoint
    checkpoint.clear(checkpoints, folder, accelerator)
    # one rank looks, for all: each reads every byte of a checkpoint, and all must take the same one
    box = [checkpoint.find(checkpoints, folder, console.print) if accelerator.is_main_process else None]
    broadcast_object_list(box)
    found = box[0]
    if found is not None:
        restoring.load(
            found,
            accelerator,
            progress,
            fingerprint,
            console.print,
            allow_changes=checkpoints.resume_with_changed_settings,
            trust=checkpoints.trust_checkpoint,
        )
        console.print(f"resumed from {visible(found)} (epoch {progress.epoch}, step {progress.step})")
        if accelerator.is_main_process:
            checkpoint.rotate(folder, found, checkpoints.save_total_limit)
    return progress
