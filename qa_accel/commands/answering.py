"""A model and a file of questions -> their answers: what `predict` and `calibrate` share."""

from collections.abc import Callable
from dataclasses import dataclass

from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress

from qa_accel.data import audit, splits
from qa_accel.data.questions import DataConfig, SplitName
from qa_accel.data.splits import Split
from qa_accel.data.windows import WindowConfig
from qa_accel.distributed import accelerator as runtime
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.postprocess import Answers, SpanConfig
from qa_accel.inference.predictor import PredictorConfig, answer_split
from qa_accel.inference.qa_model import QATask


@dataclass(frozen=True)
class Answered:
    split: Split
    version_2_with_negative: bool
    """Whether questions may have no answer."""
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
    with runtime.first_on_each_cache(accelerator) as first:
        split = splits.prepare_split(
            data, windows, task.tokenizer, name, max_answer_length=spans.max_answer_length, check_cache=first
        )
    negative = splits.version_2_with_negative(data, split)
    calibration = calibration_of(negative)
    unreachable = audit.answers_out_of_reach(split.report)
    notes = {}
    if unreachable:
        notes["gold_answers"] = (
            f"{unreachable:,} longer than --max_answer_length or whole in no window: no prediction equals them"
        )
    runtime.announce(
        console,
        runs=runtime.describe(accelerator),
        model=task.settings.model_name_or_path,
        questions=f"{len(split.questions):,} in {len(split.windows):,} windows",
        no_answer=f"where null odds > {spans.null_score_diff_threshold:.4g}" if negative else "never (SQuAD v1.1)",
        **notes,
    )
    qa = task.load_model(trained=True)
    batch_plan, collate = qa.evaluation_batches(split.windows, prediction.per_device_eval_batch_size)
    model = accelerator.prepare_model(qa.model, evaluation_mode=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("predicting", total=len(batch_plan))
        answers = answer_split(
            accelerator,
            model,
            split,
            collate,
            batch_plan,
            spans,
            version_2_with_negative=negative,
            calibration=calibration,
            done=lambda count: progress.update(bar, completed=count),
        )
    return Answered(split, negative, answers)
