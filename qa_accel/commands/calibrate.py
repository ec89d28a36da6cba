"""Fit a model's confidence to questions with gold answers, and store it in the model's config.json."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from qa_accel import files
from qa_accel.commands.answer_results import warn_of_unused
from qa_accel.commands.answering import Answered, answer
from qa_accel.commands.settings.calibrate import CalibrateConfig
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import strategy
from qa_accel.distributed.run_folder import open_answers
from qa_accel.evaluation import calibration, score_tables, scoring
from qa_accel.evaluation.calibration import GoldAnswers
from qa_accel.evaluation.confidence_figures import risk_coverage
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.postprocess import Answers
from qa_accel.inference.qa_model import load_task
from qa_accel.models import model_folder
from qa_accel.terminal import visible

FIGURES = "calibration.json"


Config = CalibrateConfig


def run(settings: CalibrateConfig) -> None:
    """Fit on one half of `validation_file`, report on the other, store. Raises ValueError for what cannot be fitted or stored."""
    accelerator = runtime.make_accelerator(settings.runtime)
    console = runtime.console(accelerator)
    config_file = _config_file(settings, accelerator)
    output = None if settings.output_dir is None else open_answers(settings.output_dir, accelerator, (FIGURES,))
    task = load_task(
        settings.model,
        settings.windows,
        settings.batching,
        **strategy.placement(accelerator),
    )
    several = settings.data.answers == "all"
    if accelerator.is_main_process:
        warn_of_unused(settings.spans, None, several=several)
    span_config = task.answer_policy.apply(settings.spans, several=several)
    answered = answer(
        accelerator,
        console,
        task,
        "validation",
        data=settings.data,
        windows=settings.windows,
        prediction=settings.prediction,
        spans=span_config,
    )
    if answered.answers is None:
        return
    policy, of_several = task.answer_policy, None
    if span_config.min_answer_score is not None:
        policy, of_several = _tuned_for_several(policy, answered, span_config.min_answer_score)
        console.print(
            f"several answers, exact F1: {of_several['multi_exact_f1']:.2f} with scores of at least "
            f"{span_config.min_answer_score:.4g}, {of_several['best_multi_exact_f1']:.2f} of at least "
            f"{policy.min_answer_score:.4g}"
        )
    fitted: Calibration | None = None
    found: Mapping[str, Any]
    try:
        fitted, found = _fit_and_judge(
            answered.answers,
            scoring.gold_answers(answered.split),
            span_config.null_score_diff_threshold or 0.0,
            version_2_with_negative=answered.version_2_with_negative,
        )
    except calibration.NotCalibrated as error:
        if of_several is None:
            raise ValueError(f"these questions cannot calibrate a model: {error}; give more of them") from error
        # the least score needs no halves; a calibration that the model has stays
        console.print(f"confidences are not calibrated: {error}")
        found = {"not_calibrated": str(error)}
    else:
        columns = {name: found[name] for name in ("before", "after", "swapped") if name in found}
        console.print(score_tables.calibration_table(columns))
        console.print(
            "before: softmax over the n-best list. after: fitted on the other half. swapped: as after, the halves exchanged"
        )
    if of_several is not None:
        found = {**found, "several_answers": of_several}
    if output is not None:
        files.write_json(output / FIGURES, found)
        console.print(f"figures: {visible(output / FIGURES)}")
    if config_file is not None:
        (policy if fitted is None else policy.with_calibration(fitted)).store_in_file(config_file)
        console.print(f"{'least score' if fitted is None else 'calibration'}: {visible(config_file)}")


def _config_file(settings: CalibrateConfig, accelerator: Accelerator) -> Path | None:
    """Where the calibration is stored; None for a model of the hub. Refuses before the minutes of prediction."""
    name = settings.model.model_name_or_path
    model_folder.check_name(name)
    folder = Path(name)
    if not folder.is_dir():
        if settings.output_dir is None:
            raise ValueError(
                f"--model_name_or_path {name} is not a local folder, so its config.json cannot be changed: download the model "
                "and give its folder, or give --output_dir for the figures"
            )
        return None
    if (folder / files.MANIFEST).exists():
        raise ValueError(
            f"--model_name_or_path {name} belongs to a run that has not ended (it holds {files.MANIFEST}), which would take "
            "a changed config.json for damage; give the folder of a finished run, or a copy without that file"
        )
    if accelerator.is_main_process:
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OSError(
                f"{folder / 'config.json'} cannot be written: {error.strerror}; copy the model to a folder of your own"
            ) from error
    return folder / "config.json"


def _tuned_for_several(
    policy: AnswerPolicy, answered: Answered, min_answer_score: float
) -> tuple[AnswerPolicy, dict[str, Any]]:
    """The policy with the least score that suits all questions best, and the figures at the one in force."""
    assert answered.answers is not None, "rank 0 has them"
    scores = scoring.several_scores(
        answered.answers,
        answered.split,
        min_answer_score,
        version_2_with_negative=answered.version_2_with_negative,
    )
    return replace(policy, min_answer_score=scores[scoring.BEST_LEAST_SCORE]), scores


def _fit_and_judge(
    answers: Answers, questions: GoldAnswers, threshold: float, *, version_2_with_negative: bool
) -> tuple[Calibration, Mapping[str, Any]]:
    """What is stored, and the content of calibration.json."""
    first, second = questions.halves()
    options: dict[str, Any] = dict(
        version_2_with_negative=version_2_with_negative,
        listed=calibration.spans_of_halves(answers, first, second),
    )
    fitted, after = calibration.calibrate(answers, first, second, threshold, **options)
    judged = calibration.judge(answers, second.texts, fitted, threshold, language=second.language, **options)
    found = {
        "calibration": fitted.as_dict(),
        "fitted_on": len(first.texts),
        "before": calibration.figures_of(
            answers, second, None, threshold, version_2_with_negative=version_2_with_negative
        ),
        "after": after,
        "risk_coverage": risk_coverage(*judged),
    }
    try:
        other, swapped = calibration.calibrate(answers, second, first, threshold, **options)
    except calibration.NotCalibrated:
        return fitted, found
    return fitted, found | {"swapped": swapped, "swapped_calibration": other.as_dict()}
