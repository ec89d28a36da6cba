"""Answer the questions of a file with a fine-tuned model, and score the answers where the file has gold ones."""

import logging
import time
from dataclasses import asdict
from pathlib import Path

from qa_accel import config, files
from qa_accel.commands.answer_results import warn_of_unused, write_results
from qa_accel.commands.answering import Answered, answer, load_task, make_accelerator
from qa_accel.commands.predict_corpus import predict_corpus
from qa_accel.commands.settings.predict import PredictConfig
from qa_accel.data import questions
from qa_accel.data.questions import cache_folder
from qa_accel.data.window_cache import windows_file
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import environment, strategy
from qa_accel.distributed.run_folder import open_answers
from qa_accel.inference import logits_record
from qa_accel.inference.answer_files import ANSWER_FILES
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.logits_record import AnsweredSplit, LogitsRecord
from qa_accel.inference.qa_model import QATask
from qa_accel.inference.settings import SpanConfig
from qa_accel.run_layout import CONFIDENCES, ENVIRONMENT, FINISHED, LOGITS, SETTINGS, SEVERAL
from qa_accel.terminal import visible

logger = logging.getLogger(__name__)


Config = PredictConfig


def run(settings: PredictConfig) -> int | None:
    """Answer every question of `test_file`, or of a data set's split `test`, or where it has none of `validation`."""
    if settings.corpus.shard_output:
        if settings.save_logits:
            raise ValueError(
                "--save_logits keeps the logits of one file of questions, --shard_output answers a corpus in pieces: leave one "
                "of them out"
            )
        return predict_corpus(
            settings.corpus,
            backend=settings.backend,
            model=settings.model,
            output_dir=settings.output_dir,
            min_confidence=settings.min_confidence,
            data=settings.data,
            windows=settings.windows,
            prediction=settings.prediction,
            spans=settings.spans,
            batching=settings.batching,
            runtime_config=settings.runtime,
            calibration_of=lambda policy, negative: _calibration(settings, policy, version_2_with_negative=negative),
        )
    if settings.logits_dtype != "float32" and not settings.save_logits:
        logger.warning("--logits_dtype %s is ignored without --save_logits", settings.logits_dtype)
    began = time.perf_counter()
    accelerator = make_accelerator(settings.backend, settings.runtime)
    console = runtime.console(accelerator)
    names = (*ANSWER_FILES, CONFIDENCES, SEVERAL, ENVIRONMENT, FINISHED, LOGITS, SETTINGS)
    if settings.compile and strategy.splits_training(accelerator):
        raise ValueError(f"--compile is not supported under {strategy.name(accelerator)}: leave it out")
    folder = open_answers(settings.output_dir, accelerator, names)
    task = load_task(settings.backend, accelerator, settings.model, settings.windows, settings.batching)
    several = settings.data.answers == "all"
    if accelerator.is_main_process:
        warn_of_unused(settings.spans, settings.min_confidence, several=several)
    span_config = task.answer_policy.apply(settings.spans, several=several)

    def calibration_of(version_2_with_negative: bool) -> Calibration | None:
        return _calibration(settings, task.answer_policy, version_2_with_negative=version_2_with_negative)

    calibration_of(False)  # a model without any is refused before the data is read
    with runtime.first_on_each_cache(accelerator):
        only_validation = not questions.has_split(settings.data, "test") and questions.has_split(
            settings.data, "validation"
        )
    split_name: AnsweredSplit = "validation" if only_validation else "test"
    answered = answer(
        accelerator,
        console,
        task,
        split_name,
        data=settings.data,
        windows=settings.windows,
        prediction=settings.prediction,
        spans=span_config,
        calibration_of=calibration_of,
        logits_dtype=settings.logits_dtype if settings.save_logits else None,
        compile=settings.compile,
    )
    answers, negative = answered.answers, answered.version_2_with_negative
    if answers is None:
        return
    (folder / LOGITS).unlink(missing_ok=True)  # former logits do not belong to the answers that follow
    threshold = span_config.null_score_diff_threshold or 0.0
    write_results(
        folder,
        console,
        answers,
        answered.split,
        threshold,
        settings.min_confidence,
        version_2_with_negative=negative,
        min_answer_score=span_config.min_answer_score,
    )
    seconds, launch = round(time.perf_counter() - began, 1), runtime.launch_line(accelerator)
    environment.write(folder, accelerator, runtime.describe(accelerator), launch=launch, seconds=seconds)
    files.write_text(folder / SETTINGS, config.dump(settings))
    if answered.logits is not None:
        _record_logits(
            settings, folder, task, answered, answered.logits, split_name, span_config, calibration_of(negative)
        )
        console.print(f"logits: {visible(answered.logits)} ({answered.logits.stat().st_size / 1e6:.1f} MB)")
    console.print(f"answers: {visible(folder / 'predictions.json')}")


def _record_logits(
    settings: PredictConfig,
    folder: Path,
    task: QATask,
    answered: Answered,
    logits: Path,
    split_name: AnsweredSplit,
    spans: SpanConfig,
    calibration: Calibration | None,
) -> None:
    """logits.json, by which decode.py finds all that it needs."""
    questions = answered.split.questions
    windows = windows_file(questions, task.tokenizer, settings.windows, cache_dir=cache_folder(settings.data))
    record = LogitsRecord(
        model=settings.model.model_name_or_path,
        split=split_name,
        questions=questions._fingerprint,
        windows=str(windows),
        logits=str(logits),
        logits_dtype=settings.logits_dtype,
        version_2_with_negative=answered.version_2_with_negative,
        n_best_size=spans.n_best_size,
        max_answer_length=spans.max_answer_length,
        null_score_diff_threshold=spans.null_score_diff_threshold or 0.0,
        min_answer_score=task.answer_policy.apply(settings.spans, several=True).min_answer_score,
        min_confidence=settings.min_confidence,
        **(asdict(calibration) if calibration else {}),
    )
    logits_record.write(folder / LOGITS, record)


def _calibration(settings: PredictConfig, policy: AnswerPolicy, *, version_2_with_negative: bool) -> Calibration | None:
    """The model's calibration for such questions. Raises ValueError if there is none and confidence is to decide."""
    found = policy.calibration(version_2_with_negative=version_2_with_negative)
    if found is None and settings.min_confidence is not None:
        name = settings.model.model_name_or_path
        if policy.temperature is None:
            raise ValueError(
                f"--min_confidence {settings.min_confidence}: {name!r} has no calibration in its config.json; run "
                f"scripts/calibrate.py --model_name_or_path {name} --validation_file FILE first"
            )
        raise ValueError(
            f"--min_confidence {settings.min_confidence}: {name!r} was calibrated on questions that all have an answer, and "
            "these may have none; run scripts/calibrate.py on such questions, or state that each has an answer: "
            "--version_2_with_negative false"
        )
    return found
