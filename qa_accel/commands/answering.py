"""A model and a file of questions -> their answers: what `predict`, `calibrate` and `export` share."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress

from qa_accel.batching.settings import BatchingConfig
from qa_accel.data import audit, splits
from qa_accel.data.questions import cache_folder
from qa_accel.data.settings import DataConfig, LogitsDtype, SplitName, WindowConfig
from qa_accel.data.splits import Split
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import strategy
from qa_accel.distributed.settings import RuntimeConfig
from qa_accel.inference import qa_model, saved_logits
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.logit_rounds import LogitRounds
from qa_accel.inference.postprocess import Answers, best_answers
from qa_accel.inference.predictor import answer_split
from qa_accel.inference.qa_model import QAModel, QATask
from qa_accel.inference.saved_candidates import candidates_of
from qa_accel.inference.settings import Backend, PredictorConfig, SpanConfig
from qa_accel.models.settings import ModelConfig


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


def backend_of(qa: QAModel) -> Backend:
    return "torch" if isinstance(qa.model, torch.nn.Module) else "onnx"


def prepare_model(accelerator: Accelerator, qa: QAModel, *, compile: bool = False) -> Any:
    """What answers on the accelerator's device; an exported model as it is. `compile`: the forward pass, at the first batch."""
    if backend_of(qa) == "onnx":
        return qa.model
    model = accelerator.prepare_model(qa.model, evaluation_mode=True)
    if not compile:
        return model
    from qa_accel.inference.compiled import CompiledModel  # with torch's compiler

    return CompiledModel(model.eval(), packed=qa.mode.packed)


@dataclass(frozen=True)
class Prepared:
    split: Split
    version_2_with_negative: bool
    """Whether questions may have no answer."""


@dataclass(frozen=True)
class Answered(Prepared):
    answers: Answers | None
    """None on all ranks but 0."""
    logits: Path | None = None
    """The file of saved logits, if they were to be saved."""


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
    logits_dtype: LogitsDtype | None = None,
    compile: bool = False,
) -> Answered:
    """Answer every question of a split; the weights are read when the data is ready. All ranks must call.

    `calibration_of`: whether questions may have no answer -> the calibration for confidences, or None. It may refuse.
    `logits_dtype`: keep all logits too, in a file of this type beside the windows' cache. `compile`: the forward pass.
    """
    prepared = prepare(accelerator, console, task, name, data=data, windows=windows, spans=spans)
    calibration = calibration_of(prepared.version_2_with_negative)
    qa = task.load_model(trained=True)
    options: Any = dict(prediction=prediction, spans=spans, calibration=calibration)
    if logits_dtype is None:
        answers, logits = answers_of(accelerator, console, qa, prepared, **options, compile=compile), None
    else:
        answers, logits = _answers_and_logits(
            accelerator, console, qa, prepared, logits_dtype, cache_folder(data), **options
        )
    return Answered(prepared.split, prepared.version_2_with_negative, answers, logits)


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
    if spans.several:
        notes["several_answers"] = f"those with a score of at least {spans.min_answer_score:.4g}"
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
    logits: LogitRounds | None = None,
    compile: bool = False,
) -> Answers | None:
    """The model's answers to all questions of a split; None on all ranks but 0. All ranks must call.

    `what`: beside the progress bar. `logits`: what keeps all of them. `compile`: the forward pass.
    """
    batch_size = prediction.batch_size(accelerator.device.type, backend_of(qa))
    batch_plan, collate = qa.evaluation_batches(prepared.split.windows, batch_size)
    model = prepare_model(accelerator, qa, compile=compile)
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
            logits=logits,
        )


def _answers_and_logits(
    accelerator: Accelerator,
    console: Console,
    qa: QAModel,
    prepared: Prepared,
    dtype: LogitsDtype,
    cache_dir: Path,
    *,
    prediction: PredictorConfig,
    spans: SpanConfig,
    calibration: Calibration | None,
) -> tuple[Answers | None, Path]:
    """As `answers_of`, and the file of the logits, from one pass of the model; from none if float32 logits are there already."""
    split = prepared.split
    batch_size = prediction.batch_size(accelerator.device.type, backend_of(qa))
    target = saved_logits.locate(accelerator, qa, split.windows, batch_size, dtype=dtype, cache_dir=cache_dir)
    if target.there and dtype == "float32":
        console.print("the model's logits of these windows are in the cache: nothing is computed")
        if not accelerator.is_main_process:
            return None, target.path
        answers = best_answers(
            split.questions,
            split.windows,
            candidates_of(saved_logits.read(target.path), split.windows, spans),
            spans,
            version_2_with_negative=prepared.version_2_with_negative,
            calibration=calibration,
        )
        return answers, target.path
    # in float16 they are rounded: the answers come from the model itself
    with nullcontext() if target.there else saved_logits.filling(accelerator, target, split.windows) as rounds:
        answers = answers_of(
            accelerator,
            console,
            qa,
            prepared,
            prediction=prediction,
            spans=spans,
            calibration=calibration,
            logits=rounds,
        )
    return answers, target.path
