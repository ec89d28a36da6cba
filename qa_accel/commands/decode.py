"""Answer a prediction's questions again under other settings, from its saved logits: no model is loaded."""

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from qa_accel import config, files
from qa_accel.commands.answer_results import warn_of_unused, write_results
from qa_accel.commands.settings.decode import DecodeConfig
from qa_accel.data import cache_file, logit_file, questions, window_store
from qa_accel.data.logit_file import SavedLogits
from qa_accel.data.set_languages import languages_of
from qa_accel.data.settings import DataConfig
from qa_accel.data.splits import Split
from qa_accel.distributed.run_folder import open_answers_alone
from qa_accel.inference import logits_record
from qa_accel.inference.answer_files import ANSWER_FILES
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.logits_record import LogitsRecord
from qa_accel.inference.postprocess import best_answers
from qa_accel.inference.saved_candidates import candidates_of
from qa_accel.inference.settings import SpanConfig
from qa_accel.inference.several_answers import UNTUNED
from qa_accel.messages import PATH, short
from qa_accel.reporting.run_files import read_settings
from qa_accel.run_layout import CONFIDENCES, FINISHED, LOGITS, PREDICTIONS, SETTINGS, SEVERAL
from qa_accel.shell_words import quoted
from qa_accel.terminal import make_console, visible

Config = DecodeConfig


def run(settings: DecodeConfig) -> None:
    """Raises ValueError for a folder without saved logits, and where what they belong to is missing, changed or damaged."""
    console = make_console(soft_wrap=True)
    place = settings.prediction
    record = _record(place)
    written = read_settings(place / SETTINGS)
    if not written:
        raise ValueError(
            f"{place} holds no {SETTINGS}, which says where the questions are; run predict.py --save_logits again"
        )
    data = DataConfig(**config.written_settings(DataConfig, written, place / SETTINGS))
    if settings.answers is not None:
        data = replace(data, answers=settings.answers)
    several = data.answers == "all"
    spans, calibration, least = _answer_settings(settings, record, console)
    if os.path.realpath(settings.output_dir) == os.path.realpath(place):
        raise ValueError(
            f"--output_dir {short(settings.output_dir, PATH)} is the prediction's own folder, whose answers would be replaced: "
            "take another folder"
        )
    if several:
        if spans.min_answer_score is None:
            spans = replace(spans, min_answer_score=UNTUNED)
        warn_of_unused(spans, least, several=True)
    else:
        warn_of_unused(SpanConfig(min_answer_score=settings.min_answer_score), least, several=False)
        spans = replace(spans, min_answer_score=None)
    names = (*ANSWER_FILES, CONFIDENCES, SEVERAL, FINISHED, SETTINGS, LOGITS)
    folder = open_answers_alone(settings.output_dir, names)
    split, saved = _saved(place, record, data)
    answers = best_answers(
        split.questions,
        split.windows,
        candidates_of(saved, split.windows, spans),
        spans,
        version_2_with_negative=record.version_2_with_negative,
        calibration=calibration,
    )
    for stale in (FINISHED, LOGITS):
        (folder / stale).unlink(missing_ok=True)
    write_results(
        folder,
        console,
        answers,
        split,
        spans.null_score_diff_threshold or 0.0,
        least,
        version_2_with_negative=record.version_2_with_negative,
        min_answer_score=spans.min_answer_score,
    )
    given = {name: value for name, value in _given_spans(settings).items() if value is not None}
    recipe = written | given | {"answers": data.answers, "min_confidence": least, "output_dir": settings.output_dir}
    files.write_text(folder / SETTINGS, yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
    console.print(f"answers: {visible(folder / PREDICTIONS)}")


def _answer_settings(
    settings: DecodeConfig, record: LogitsRecord, console: Console
) -> tuple[SpanConfig, Calibration | None, float | None]:
    """What is given, else what the prediction had; the calibration and the least confidence, where they hold for that."""
    names = _given_spans(settings)
    spans = SpanConfig(**{name: getattr(record, name) if given is None else given for name, given in names.items()})
    of_prediction = (record.n_best_size, record.max_answer_length)
    if record.calibration is None:
        reason = "the model is not calibrated for such questions (scripts/calibrate.py)"
    elif (spans.n_best_size, spans.max_answer_length) != of_prediction:
        reason = "the calibration belongs to --n_best_size {} --max_answer_length {}".format(*of_prediction)
    else:
        least = record.min_confidence if settings.min_confidence is None else settings.min_confidence
        return spans, record.calibration, least
    if settings.min_confidence is not None:
        raise ValueError(f"--min_confidence {settings.min_confidence}: these answers have no confidence: {reason}")
    if record.calibration is not None:
        withheld = "" if record.min_confidence is None else f", and no answer below {record.min_confidence} is withheld"
        console.print(f"no confidences{withheld}: {reason}")
    return spans, None, None


def _given_spans(settings: DecodeConfig) -> dict[str, Any]:
    names = [field.name for field in fields(SpanConfig)]
    return {name: getattr(settings, name) for name in names}


def _record(place: Path) -> LogitsRecord:
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder; give the output_dir of predict.py --save_logits")
    if not os.path.lexists(place / LOGITS):
        raise ValueError(
            f"{place} holds no {LOGITS}: its logits were not saved; run predict.py with --save_logits"
            + (f": {_again(place)} --save_logits" if (place / SETTINGS).is_file() else "")
        )
    return logits_record.read(place / LOGITS)


def _again(place: Path) -> str:
    return f"accelerate launch scripts/predict.py --config {quoted(str(place / SETTINGS))}"


def _saved(place: Path, record: LogitsRecord, data: DataConfig) -> tuple[Split, SavedLogits]:
    """Questions, windows and logits. Raises ValueError, with the command that computes them again, unless all are whole and
    belong together."""
    remedy = f"compute them again: {_again(place)}"
    try:
        rows = questions.load_questions(data, record.split)
    except (ValueError, OSError) as error:
        raise ValueError(f"{place}: the questions of its logits cannot be read: {error}") from error
    if rows._fingerprint != record.questions:
        raise ValueError(f"{place}: the questions have changed since their logits were saved; {remedy}")
    for path, kind in ((record.windows, "windows"), (record.logits, "logits")):
        if not os.path.isfile(path):
            damage = "there is no such file"
        elif not os.path.basename(path).startswith(f"{kind}-"):
            damage = f"its name does not begin with {kind}-"
        else:
            damage = cache_file.damage_of(Path(path))
        if damage is not None:
            raise ValueError(f"{place / LOGITS}: {short(path, PATH)} cannot be used ({damage}); {remedy}")
    windows, saved = window_store.read(Path(record.windows)), logit_file.read(Path(record.logits))
    if not np.array_equal(windows.begin_W, saved.begin_W) or len(windows.question_cut_Q) != len(rows):
        raise ValueError(
            f"{place / LOGITS}: the logits, windows and questions that it names do not belong together; {remedy}"
        )
    return Split(rows, windows, answer_language=languages_of(data.answer_language, rows)), saved
