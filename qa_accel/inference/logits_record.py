"""logits.json of a prediction: where its saved logits are, what they were made from, and the settings of its answers."""

import math
import os
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from qa_accel import files
from qa_accel.answer_language import ENGLISH, check_language
from qa_accel.config import written_settings
from qa_accel.data.settings import LogitsDtype
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.settings import SpanConfig
from qa_accel.input_files import read_json
from qa_accel.messages import listed, shown
from qa_accel.ranges import LARGEST, check_ranges

AnsweredSplit = Literal["validation", "test"]
"""Splits whose questions predict.py answers."""


@dataclass(frozen=True)
class LogitsRecord:
    model: str
    """Name or folder, for people."""
    split: AnsweredSplit
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
    answer_language: str = ENGLISH
    """Of the calibration."""
    min_answer_score: float | None = None
    """The least score of one of several answers, of the flag or the model; None: an older version wrote the file."""

    def __post_init__(self):
        check_language(self.answer_language)
        SpanConfig(self.n_best_size, self.max_answer_length, self.null_score_diff_threshold)
        check_ranges(self, min_confidence="[0, 1]", temperature="(0, inf)", min_answer_score="[0, 1]")
        check_ranges(self, null_odds_weight="(-inf, inf)", null_odds_bias="(-inf, inf)")
        if (self.null_odds_weight is None) != (self.null_odds_bias is None):
            raise ValueError("null_odds_weight and null_odds_bias belong together; one of them is missing")
        if self.temperature is None and self.null_odds_weight is not None:
            raise ValueError("null_odds_weight and null_odds_bias belong to a temperature, which is missing")

    @property
    def calibration(self) -> Calibration | None:
        if self.temperature is None:
            return None
        return Calibration(self.temperature, self.null_odds_weight, self.null_odds_bias, self.answer_language)


FORMAT = 1


def write(path: Path, record: LogitsRecord) -> None:
    content = asdict(record)
    content |= {name: os.path.abspath(content[name]) for name in ("windows", "logits")}
    if record.answer_language == ENGLISH:
        del content["answer_language"]
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
    found = written_settings(LogitsRecord, content, path)
    for name, value in found.items():
        if type(value) is int and abs(value) > LARGEST:  # JSON has integers that no float holds
            raise ValueError(f"{path}: {name} cannot be {shown(value)}; predict.py --save_logits wrote another value")
    missing = [field.name for field in fields(LogitsRecord) if field.default is MISSING and field.name not in found]
    if missing:
        raise ValueError(f"{path}: {listed(missing)} must be there; predict.py --save_logits wrote the file otherwise")
    try:
        return LogitsRecord(**found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
