"""logits.json of a prediction: where its saved logits are, what they were made from, and the settings of its answers."""

import math
import os
import types
import typing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from qa_accel import files
from qa_accel.data.logit_file import LogitsDtype
from qa_accel.data.questions import SplitName
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.postprocess import SpanConfig
from qa_accel.input_files import read_json
from qa_accel.messages import shown
from qa_accel.ranges import check_ranges


@dataclass(frozen=True)
class LogitsRecord:
    model: str
    """Name or folder, for people."""
    split: SplitName
    questions: str
    """Fingerprint of the questions."""
    windows: str
    """Path of their windows' file."""
    logits: str
    """Path of the logits' file."""
    logits_dtype: LogitsDtype
    version_2_with_negative: bool
    """Whether questions may have no answer."""
    n_best_size: int
    max_answer_length: int
    null_score_diff_threshold: float
    min_confidence: float | None = None
    temperature: float | None = None
    """With the next two the model's calibration for such questions; None: it has none."""
    null_odds_weight: float | None = None
    null_odds_bias: float | None = None

    def __post_init__(self):
        SpanConfig(self.n_best_size, self.max_answer_length, self.null_score_diff_threshold)
        check_ranges(self, min_confidence="[0, 1]")

    @property
    def calibration(self) -> Calibration | None:
        if self.temperature is None:
            return None
        return Calibration(self.temperature, self.null_odds_weight, self.null_odds_bias)


FORMAT = 1


def write(path: Path, record: LogitsRecord) -> None:
    content = asdict(record)
    content |= {name: os.path.abspath(content[name]) for name in ("windows", "logits")}
    threshold = record.null_score_diff_threshold
    if not math.isfinite(threshold):
        content["null_score_diff_threshold"] = str(threshold)  # JSON has no infinity
    files.write_json(path, {"format": FORMAT} | content)


def read(path: Path) -> LogitsRecord:
    """Raises ValueError for a file that is not there, or that this version did not write so."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected the object that predict.py --save_logits writes (format {FORMAT}), found {shown(content)}"
        )
    if content.get("null_score_diff_threshold") in ("inf", "-inf"):
        content["null_score_diff_threshold"] = float(content["null_score_diff_threshold"])
    given = {}
    for field in fields(LogitsRecord):
        value = content.get(field.name)
        if not _fits(value, typing.get_type_hints(LogitsRecord)[field.name]):
            raise ValueError(
                f"{path}: {field.name} cannot be {shown(value)}; predict.py --save_logits wrote another value"
            )
        given[field.name] = value
    try:
        record = LogitsRecord(**given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if record.temperature is not None and record.temperature <= 0:
        raise ValueError(f"{path}: temperature is {record.temperature}; expected a number above 0")
    if (record.null_odds_weight is None) != (record.null_odds_bias is None):
        raise ValueError(f"{path}: null_odds_weight and null_odds_bias belong together; one of them is missing")
    return record


def _fits(value: Any, kind: Any) -> bool:
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    for one in kinds:
        if typing.get_origin(one) is Literal:
            fits = isinstance(value, str) and value in typing.get_args(one)
        elif one is float:
            fits = (type(value) in (int, float) and abs(value) <= 1e300) or value in (math.inf, -math.inf)
        else:
            fits = type(value) is one and value != "" and not (isinstance(value, str) and "\0" in value)
        if fits:
            return True
    return False
