"""Answer the questions of a file with a fine-tuned model, and score the answers where the file has gold ones.

accelerate launch scripts/predict.py --model_name_or_path runs/squad_v2 --test_file questions.json --output_dir runs/answers
"""

from dataclasses import dataclass, field

from rich.progress import Progress

from qa_accel import config, files
from qa_accel.batching.mode import BatchingConfig
from qa_accel.data import audit, questions, splits
from qa_accel.data.questions import DataConfig
from qa_accel.data.windows import WindowConfig
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import strategy
from qa_accel.distributed.accelerator import RuntimeConfig
from qa_accel.distributed.run_folder import FINISHED, open_answers
from qa_accel.evaluation import report, scoring
from qa_accel.inference.postprocess import ANSWER_FILES, SpanConfig, write_answers
from qa_accel.inference.predictor import PredictorConfig, answer_split
from qa_accel.inference.qa_model import load_task
from qa_accel.models.loading import ModelConfig
from qa_accel.terminal import visible


@dataclass(frozen=True)
class PredictConfig:
    model: ModelConfig
    output_dir: str
    """Folder for predictions.json, nbest_predictions.json, null_odds.json and, where the file has answers, all_results.json;
    not that of a training run."""
    data: DataConfig = field(default_factory=DataConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    prediction: PredictorConfig = field(default_factory=PredictorConfig)
    spans: SpanConfig = field(default_factory=SpanConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


Config = PredictConfig


def run(settings: PredictConfig) -> None:
    """Answer every question of `test_file`, or of a data set's split `test`, or where it has none of `validation`."""
    accelerator = runtime.make_accelerator(settings.runtime)
    console = runtime.console(accelerator)
    folder = open_answers(settings.output_dir, accelerator, (*ANSWER_FILES, FINISHED, "config.yaml"))
    task = load_task(
        settings.model,
        settings.windows,
        settings.batching,
        device=accelerator.device.type,
        precision=strategy.precision(accelerator),
    )
    span_config = task.answer_policy.apply(settings.spans)
    with runtime.first_on_each_cache(accelerator) as first:
        only_validation = not questions.has_split(settings.data, "test") and questions.has_split(
            settings.data, "validation"
        )
        split = splits.prepare_split(
            settings.data,
            settings.windows,
            task.tokenizer,
            "validation" if only_validation else "test",
            max_answer_length=settings.spans.max_answer_length,
            check_cache=first,
        )
    negative = splits.version_2_with_negative(settings.data, split)
    unreachable = audit.answers_out_of_reach(split.report)
    runtime.announce(
        console,
        runs=runtime.describe(accelerator),
        model=settings.model.model_name_or_path,
        questions=f"{len(split.questions):,} in {len(split.windows):,} windows",
        no_answer=f"where null odds > {span_config.null_score_diff_threshold:.4g}"
        if negative
        else "never (SQuAD v1.1)",
        **(
            {
                "gold_answers": f"{unreachable:,} longer than --max_answer_length or whole in no window: no prediction equals them"
            }
            if unreachable
            else {}
        ),
    )
    qa = task.load_model(trained=True)
    batch_plan, collate = qa.evaluation_batches(split.windows, settings.prediction.per_device_eval_batch_size)
    model = accelerator.prepare_model(qa.model, evaluation_mode=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("predicting", total=len(batch_plan))
        answers = answer_split(
            accelerator,
            model,
            split,
            collate,
            batch_plan,
            span_config,
            version_2_with_negative=negative,
            done=lambda count: progress.update(bar, completed=count),
        )
    if answers is None:
        return
    write_answers(answers, folder)
    if "answers" in split.questions.column_names:
        threshold = span_config.null_score_diff_threshold or 0.0
        scores = scoring.scores_of(answers, split, threshold, version_2_with_negative=negative)
        files.write_json(folder / FINISHED, scores)
        console.print(report.scores_table(scores))
    files.write_text(folder / "config.yaml", config.dump(settings))
    console.print(f"answers: {visible(folder / 'predictions.json')}")
