"""A model and a file of questions -> their answers: what `predict`, `calibrate` and `export` share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress

from qa_accel.batching.mode import BatchingConfig
from qa_accel.data import audit, splits
from qa_accel.data.questions import DataConfig, SplitName
from qa_accel.data.splits import Split
from qa_accel.data.windows import WindowConfig
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import strategy
from qa_accel.distributed.accelerator import RuntimeConfig
from qa_accel.inference import qa_model
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.postprocess import Answers, SpanConfig
from qa_accel.inference.predictor import PredictorConfig, answer_split
from qa_accel.inference.qa_model import QAModel, QATask
from qa_accel.inference.reader_backends import Backend
from qa_accel.models.loading import ModelConfig


def make_accelerator(backend: Backend, config: RuntimeConfig) -> Accelerator:
    """Over every process that the launcher started; on the CPU in fp32 where an exported model computes."""
    options: dict[str, Any] = dict(cpu=True, mixed_precision="no") if backend == "onnx" else {}
    return runtime.make_accelerator(config, **options)


def load_task(
    backend: Backend, accelerator: Accelerator, model: ModelConfig, windows: WindowConfig, batching: BatchingConfig
) -> QATask:
    """Raises ValueError for what cannot work."""
    if backend == "onnx":
        for flag, given, fits in (
            ("dtype", model.dtype, "float32"),
            ("batching", batching.batching, BatchingConfig.batching),
            ("attn_implementation", batching.attn_implementation, BatchingConfig.attn_implementation),
        ):
            if given != fits and (flag, given) != ("batching", "padded"):
                raise ValueError(f"--{flag} {given} is for the backend torch: leave it out with --backend onnx")
        return qa_model.load_exported_task(model, windows, torch.get_num_threads())
    return qa_model.load_task(model, windows, batching, **strategy.placement(accelerator))


def prepare_model(accelerator: Accelerator, model: Any) -> Any:
    """What answers on the accelerator's device; an exported model as it is."""
    return accelerator.prepare_model(model, evaluation_mode=True) if isinstance(model, torch.nn.Module) else model


@dataclass(frozen=True)
class Prepared:
    split: Split
    version_2_with_negative: bool
    """Whether questions may have no answer."""


@dataclass(frozen=True)
class Answered(Prepared):
    answers: Answers | None
    """None on all ranks but 0."""


def answer(
    accelerator: Accelerator,
    console: Console,
    task: QATask,
    name: SplitName,
    *,
    data: DataConfig,
    windows: WindowConfig,
    prediction: PredictorConfig,
    spans: SpanConfig,
    calibration_of: Callable[[bool], Calibration | None] = lambda version_2_with_negative: None,
) -> Answered:
    """Answer every question of a split; the weights are read when the data is ready. All ranks must call.

    `calibration_of`: whether questions may have no answer -> the calibration for confidences, or None. It may refuse.
    """
    prepared = prepare(accelerator, console, task, name, data=data, windows=windows, spans=spans)
    calibration = calibration_of(prepared.version_2_with_negative)
    qa = task.load_model(trained=True)
    answers = answers_of(
        accelerator, console, qa, prepared, prediction=prediction, spans=spans, calibration=calibration
    )
    return Answered(prepared.split, prepared.version_2_with_negative, answers)


def prepare(
    accelerator: Accelerator,
    console: Console,
    task: QATask,
    name: SplitName,
    *,
    data: DataConfig,
    windows: WindowConfig,
    spans: SpanConfig,
) -> Prepared:
    """Questions and windows of a split, announced on the console. All ranks must call."""
    with runtime.first_on_each_cache(accelerator) as first:
        split = splits.prepare_split(
            data, windows, task.tokenizer, name, max_answer_length=spans.max_answer_length, check_cache=first
        )
    negative = splits.version_2_with_negative(data, split)
    unreachable = audit.answers_out_of_reach(split.report)
    notes = {}
    if unreachable:
        notes["gold_answers"] = (
            f"{unreachable:,} longer than --max_answer_length or whole in no window: no prediction equals them"
        )
    if task.exported is not None:
        notes["graph"] = f"{task.exported.facts.precision}, computed by {task.exported.runtime}"
    runtime.announce(
        console,
        runs=runtime.describe(accelerator),
        model=task.settings.model_name_or_path,
        questions=f"{len(split.questions):,} in {len(split.windows):,} windows",
        no_answer=f"where null odds > {spans.null_score_diff_threshold:.4g}" if negative else "never (SQuAD v1.1)",
        **notes,
    )
    return Prepared(split, negative)


def answers_of(
    accelerator: Accelerator,
    console: Console,
    qa: QAModel,
    prepared: Prepared,
    *,
    prediction: PredictorConfig,
    spans: SpanConfig,
    calibration: Calibration | None = None,
    what: str = "predicting",
) -> Answers | None:
    """The model's answers to all questions of a split; None on all ranks but 0. All ranks must call.

    `what`: beside the progress bar.
    """
    batch_plan, collate = qa.evaluation_batches(prepared.split.windows, prediction.per_device_eval_batch_size)
    model = prepare_model(accelerator, qa.model)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=len(batch_plan))
        return answer_split(
            accelerator,
            model,
            prepared.split,
            collate,
            batch_plan,
            spans,
            version_2_with_negative=prepared.version_2_with_negative,
            calibration=calibration,
            done=lambda count: progress.update(bar, completed=count),
        )
