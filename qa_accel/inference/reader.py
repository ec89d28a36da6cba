"""Questions and a fine-tuned model -> answers: what `scripts/predict.py` runs, and the same from Python."""

from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from rich.progress import Progress

from qa_accel import config, files
from qa_accel.batching import mode as batching
from qa_accel.batching.mode import BatchingConfig
from qa_accel.data import questions as data
from qa_accel.data import splits as prepare
from qa_accel.data.pair_tokenizer import PairTokenizer
from qa_accel.data.questions import DataConfig
from qa_accel.data.window_assembly import Gold
from qa_accel.data.window_cache import WindowConfig, check_tokenizer
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed.accelerator import RuntimeConfig
from qa_accel.evaluation import report
from qa_accel.evaluation import scoring as evaluation
from qa_accel.inference.postprocess import SpanConfig, write_answers
from qa_accel.inference.predictor import EvalConfig
from qa_accel.models import loading as model
from qa_accel.models.loading import ModelConfig
from qa_accel.training.checkpoint import writable_folder


@dataclass(frozen=True)
class PredictConfig:
    model: ModelConfig
    output_dir: str
    """Folder for predictions.json, nbest_predictions.json, null_odds.json and, where the file has answers, all_results.json."""
    data: DataConfig = field(default_factory=DataConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    predict: EvalConfig = field(default_factory=EvalConfig)
    spans: SpanConfig = field(default_factory=SpanConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def run(settings: PredictConfig) -> None:
    """Answer every question of `test_file`, or of a data set's split `test`, or where it has none of `validation`."""
    accelerator = runtime.make_accelerator(settings.runtime)
    console = runtime.console(accelerator)
    folder = writable_folder(settings.output_dir, accelerator)
    tokenizer = model.load_tokenizer(settings.model)
    check_tokenizer(tokenizer, settings.windows)
    model_config = model.load_model_config(settings.model, settings.windows.max_seq_length, tokenizer)
    span_config = evaluation.with_threshold(
        settings.spans, model.stored_threshold(settings.model.model_name_or_path, model_config)
    )
    manner = batching.choose(settings.batching, accelerator, model_config)
    with runtime.first_on_each_cache(accelerator):
        name = "test" if data.has_split(settings.data, "test") else "validation"
        split = prepare.prepare_split(settings.data, settings.windows, tokenizer, name)
    has_gold = "answers" in split.questions.column_names
    negative = settings.data.version_2_with_negative
    if negative is None:
        # without gold answers nothing says that every question has one
        negative = not has_gold or data.has_unanswerable(split.questions)
    report.announce(
        console,
        runs=runtime.describe(accelerator),
        model=settings.model.model_name_or_path,
        questions=f"{len(split.questions):,} in {len(split.windows):,} windows",
        no_answer=f"where null odds > {span_config.null_score_diff_threshold:.4g}"
        if negative
        else "never (SQuAD v1.1)",
    )
    qa_model = manner.set_up(model.load_model(settings.model, model_config, tokenizer, trained=True))
    batch_size, max_seq_length = settings.predict.per_device_eval_batch_size, settings.windows.max_seq_length
    batch_plan, collate = manner.evaluation(split.windows, tokenizer, qa_model, batch_size, max_seq_length)
    qa_model = accelerator.prepare_model(qa_model, evaluation_mode=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("predicting", total=len(batch_plan))
        answers = evaluation.answer_split(
            accelerator,
            qa_model,
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
    if has_gold:
        threshold = span_config.null_score_diff_threshold or 0.0
        scores = evaluation.scores_of(answers, split, threshold, version_2_with_negative=negative)
        files.write_json(folder / "all_results.json", scores)
        console.print(report.scores_table(scores))
    files.write_text(folder / "config.yaml", config.dump(settings))
    console.print(f"answers: {folder / 'predictions.json'}", highlight=False)


class Reader:
    """A fine-tuned model in memory that answers questions, one at a time or many at once.

    >>> reader = Reader("runs/quickstart")
    >>> reader.answer("What is the capital of Peru?", "Lima is the capital of Peru.")["text"]
    'Lima'
    """

    def __init__(
        self,
        model_name_or_path: str,
        *,
        windows: WindowConfig | None = None,
        spans: SpanConfig | None = None,
        batch_size: int = 32,
        accelerator: Accelerator | None = None,
    ):
        """Raises ValueError where the model has no question answering head or no fast tokenizer."""
        settings = model.ModelConfig(model_name_or_path)
        self.windows = windows or WindowConfig()
        self.tokenizer = model.load_tokenizer(settings)
        check_tokenizer(self.tokenizer, self.windows)
        model_config = model.load_model_config(settings, self.windows.max_seq_length, self.tokenizer)
        self.spans = evaluation.with_threshold(
            spans or SpanConfig(), model.stored_threshold(model_name_or_path, model_config)
        )
        self.accelerator = accelerator or runtime.make_accelerator(runtime.RuntimeConfig())
        self.manner = batching.choose(BatchingConfig(), self.accelerator, model_config)
        qa_model = self.manner.set_up(model.load_model(settings, model_config, self.tokenizer, trained=True))
        self.model: Any = self.accelerator.prepare_model(qa_model, evaluation_mode=True)
        self.batch_size = batch_size

    def answer(self, question: str, context: str) -> dict[str, Any]:
        """The best answer: text ("" for none), start and end in characters of `context`, probability, null_odds, nbest."""
        return self.answer_all([(question, context)])[0]

    @torch.no_grad()
    def answer_all(self, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
        """Answers to (question, context) pairs, in their order."""
        if not pairs:
            return []
        questions = datasets.Dataset.from_dict(
            {
                "id": [str(row) for row in range(len(pairs))],
                "question": [question for question, _ in pairs],
                "context": [context for _, context in pairs],
            }
        )
        no_gold = Gold(*np.zeros((2, len(pairs)), np.int64))
        windows = PairTokenizer(self.tokenizer, self.windows).plain(
            questions["question"], questions["context"], no_gold
        )
        split = prepare.Split(questions, windows)
        batch_plan, collate = self.manner.evaluation(
            windows, self.tokenizer, self.model, self.batch_size, self.windows.max_seq_length
        )
        answers = evaluation.answer_split(
            self.accelerator,
            self.model,
            split,
            collate,
            batch_plan,
            self.spans,
            version_2_with_negative=True,
        )
        assert answers is not None, "a reader lives in one process"
        found = []
        for key in questions["id"][:]:
            entry = next(entry for entry in answers.nbest[key] if entry["text"] == answers.predictions[key])
            found.append({**entry, "null_odds": answers.null_odds[key], "nbest": answers.nbest[key]})
        return found
