"""A training run's folder, a folder of answers, or a file of predictions -> its settings, answers, scores and log.

Nothing is computed here; what a folder does not have is None. Only these files are read: config.yaml, config.json,
predictions.json, nbest_predictions.json, null_odds.json, confidences.json, answers.json, all_results.json, data_report.json,
environment.json, metrics.jsonl.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from qa_accel import run_layout
from qa_accel.inference.answer_policy import THRESHOLD_KEY, AnswerPolicy
from qa_accel.input_files import read_json, require_regular
from qa_accel.messages import quoted, shown


@dataclass(frozen=True)
class RunFiles:
    path: Path
    """The folder, or the file of predictions."""
    predictions: Mapping[str, str]
    nbest: Mapping[str, list[dict[str, Any]]] | None = None
    null_odds: Mapping[str, float] | None = None
    confidences: Mapping[str, float] | None = None
    several: Mapping[str, list[str]] | None = None
    """Texts of answers.json, if a question may have several answers."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """config.yaml; empty for a file of predictions."""
    policy: AnswerPolicy = field(default_factory=AnswerPolicy)
    """Of a training run's model."""
    results: Mapping[str, Any] = field(default_factory=dict)
    """all_results.json, or the scores of the best model so far of a run that has not ended."""
    data_report: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """Lines of metrics.jsonl."""
    ended: bool = True

    @property
    def name(self) -> str:
        return self.path.absolute().name

    @property
    def trained(self) -> bool:
        """Whether it is a training run, rather than answers of a model that was there before."""
        return "learning_rate" in self.settings


def read_run(path: Path) -> RunFiles:
    """Raises ValueError for what is no run, has no answers yet, or is damaged; the message names the file."""
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise ValueError(
            f"{path}: no such folder or file; give the output_dir of train.py or predict.py, or a predictions file"
        )
    return RunFiles(path, _texts(path))


def _read_folder(folder: Path) -> RunFiles:
    answers, ended = folder, True
    if not (folder / run_layout.PREDICTIONS).exists() and (folder / run_layout.BEST / run_layout.PREDICTIONS).exists():
        answers, ended = folder / run_layout.BEST, False
    if not (answers / run_layout.PREDICTIONS).exists():
        raise ValueError(f"{folder}: holds no predictions.json: {_why_none(folder)}")
    results = read_object(folder / run_layout.FINISHED) or {}
    if not ended:
        results = (read_object(answers / run_layout.SCORES_OF_BEST) or {}).get("scores", {})
    settings = read_settings(folder / run_layout.SETTINGS)
    for path, content in ((folder / run_layout.FINISHED, results), (folder / run_layout.SETTINGS, settings)):
        _check_threshold(path, content.get(THRESHOLD_KEY))
    return RunFiles(
        path=folder,
        predictions=_texts(answers / run_layout.PREDICTIONS),
        nbest=_nbest(answers / run_layout.NBEST),
        null_odds=_numbers(answers / run_layout.NULL_ODDS),
        confidences=_numbers(answers / run_layout.CONFIDENCES),
        several=_several(answers / run_layout.SEVERAL),
        settings=settings,
        policy=_policy_in(answers / "config.json"),
        results=results,
        data_report=read_object(folder / run_layout.DATA_REPORT),
        environment=read_object(folder / run_layout.ENVIRONMENT),
        metrics=_metrics(folder / run_layout.METRICS),
        ended=ended,
    )


def _check_threshold(path: Path, value: Any) -> None:
    try:
        right = value is None or float(value) == float(value)  # "inf" is text in JSON; nan is no threshold
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(f"{path}: {THRESHOLD_KEY} is {shown(value)}; a number is expected")


def _why_none(folder: Path) -> str:
    if (folder / "manifest.json").exists():
        return "answers in pieces (--shard_output) have no scores to report; run predict.py without it"
    if (folder / run_layout.METRICS).exists() or list(folder.glob("checkpoint-*")):
        return "the run has not been evaluated yet, or has no validation data (--validation_file)"
    return "it is not the output_dir of train.py or predict.py"


def read_object(path: Path) -> dict[str, Any] | None:
    """A file of one JSON object, None if it is not there. Raises ValueError for anything else."""
    return _object(path) if path.exists() else None


def _object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected one JSON object, found {shown(content)}")
    return content


def _texts(path: Path) -> dict[str, str]:
    content = _object(path)
    for key, text in content.items():
        if not isinstance(text, str):
            raise ValueError(f'{path}: {quoted(key)}: a prediction is a text ("" = no answer), found {shown(text)}')
    return content


def _numbers(path: Path) -> dict[str, float] | None:
    content = read_object(path)
    for key, number in (content or {}).items():
        if type(number) not in (int, float) or number != number:
            raise ValueError(f"{path}: {quoted(key)}: expected a number, found {shown(number)}")
    return content


def _nbest(path: Path) -> dict[str, list[dict[str, Any]]] | None:
    content = read_object(path)
    for key, entries in (content or {}).items():
        if not isinstance(entries, list) or not entries or not all(map(_is_entry, entries)):
            raise ValueError(
                f"{path}: {quoted(key)}: expected a list of answers with text, probability, start_logit, end_logit, start and "
                f"end, found {shown(entries)}"
            )
    return content


def _several(path: Path) -> dict[str, list[str]] | None:
    content = read_object(path)
    for key, entries in (content or {}).items():
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and isinstance(entry.get("text"), str) for entry in entries
        ):
            raise ValueError(f"{path}: {quoted(key)}: expected a list of answers with text, found {shown(entries)}")
    return None if content is None else {key: [entry["text"] for entry in content[key]] for key in content}


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("text"), str)
        and all(type(entry.get(name)) in (int, float) for name in ("probability", "start_logit", "end_logit"))
        and all(type(entry.get(name)) is int for name in ("start", "end"))
    )


def read_settings(path: Path) -> dict[str, Any]:
    """A run's config.yaml; empty if it is not there. Raises ValueError, with the file's name, for what holds no settings."""
    if not path.exists():
        return {}
    require_regular(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected settings, one per line, found {shown(content)}")
    return content


def _policy_in(path: Path) -> AnswerPolicy:
    """Of a model's config.json; that of a folder of answers is none."""
    content = read_object(path)
    return AnswerPolicy() if content is None else AnswerPolicy.of_model(SimpleNamespace(**content), path.parent)


def policy_of_model(folder: Path) -> AnswerPolicy:
    """What a model's folder stores; of a model that is not in a folder, nothing is known."""
    return _policy_in(folder / "config.json")


def _metrics(path: Path) -> list[dict[str, Any]]:
    """Lines that can be read: a run that is still going on may have written half of the last one."""
    if not path.exists():
        return []
    require_regular(path)
    lines = []
    for line in path.read_bytes().split(b"\n"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and type(entry.get("step")) is int:
            lines.append(entry)
    return lines
