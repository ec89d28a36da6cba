"""When a model answers, when it says "no answer", and how sure it is: one dictionary in the model's config.json.

`"answer_policy": {"null_score_diff_threshold": -1.25, "temperature": 1.08, "null_odds_weight": 0.19, "null_odds_bias": 0.37}`,
tuned by training; scripts/calibrate.py fits the last three for a model that is there already. Later settings of the kind
become further keys of it.
"""

import json
import logging
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa_accel import files
from qa_accel.answer_language import ENGLISH, KNOWN
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.settings import SpanConfig
from qa_accel.inference.several_answers import UNTUNED
from qa_accel.input_files import read_json
from qa_accel.messages import listed, short

if TYPE_CHECKING:  # it imports torch, which an exported model does without
    from transformers import PretrainedConfig

logger = logging.getLogger(__name__)

CONFIG_KEY = "answer_policy"
"""Name of the dictionary in config.json."""
THRESHOLD_KEY = "null_score_diff_threshold"
"""Older models have this one number at the top of config.json instead. It is still read."""
ANSWER_SCORE_KEY = "min_answer_score"
LANGUAGE_KEY = "answer_language"


@dataclass(frozen=True)
class AnswerPolicy:
    null_score_diff_threshold: float | None = None
    """Null odds above which a question is answered with ""; None: never tuned."""
    temperature: float | None = None
    """With the next two a `Calibration`; None: not calibrated. It belongs to one max_answer_length and one n_best_size, and
    to these weights: fit it again after a change of any of them, int8 weights included. The threshold may change."""
    null_odds_weight: float | None = None
    null_odds_bias: float | None = None
    answer_language: str | None = None
    """Of the calibration; None: English."""
    min_answer_score: float | None = None
    """Where a question may have several answers (--answers all): the least score of one, 0 to 1; None: never tuned. Like the
    calibration it belongs to one max_answer_length and one n_best_size."""

    def with_calibration(self, calibration: Calibration | None) -> "AnswerPolicy":
        """The same thresholds with another calibration, or without one."""
        without = AnswerPolicy(self.null_score_diff_threshold, min_answer_score=self.min_answer_score)
        return without if calibration is None else replace(without, **calibration.as_dict())

    def calibration(self, *, version_2_with_negative: bool) -> Calibration | None:
        """The stored calibration; None where there is none, or where questions may have no answer and it was fitted on
        questions that all have one."""
        if self.temperature is None:
            return None
        language = self.answer_language or ENGLISH
        found = Calibration(self.temperature, self.null_odds_weight, self.null_odds_bias, language)
        return found if found.knows_no_answer or not version_2_with_negative else None

    @classmethod
    def of_model(cls, model_config: Any, name_or_path: str | Path) -> "AnswerPolicy":
        """The policy stored with a model, in the attributes of its config. Raises ValueError, with `name_or_path`, for one that
        cannot be read."""
        stored = getattr(model_config, CONFIG_KEY, None)
        if stored is None:
            stored = {THRESHOLD_KEY: getattr(model_config, THRESHOLD_KEY, None)}
        return cls.of_file(stored, name_or_path, "config.json", "scripts/calibrate.py")

    @classmethod
    def of_file(cls, stored: Any, name_or_path: str | Path, file: str, script: str) -> "AnswerPolicy":
        """The policy in a file of a folder. `script`: what writes a calibration there. Raises ValueError as `of_model`."""
        place = f"{str(name_or_path)!r}: {file} has"
        if not isinstance(stored, dict):
            raise ValueError(f"{place} {CONFIG_KEY} {short(repr(stored))}; expected a mapping")
        known = {field.name for field in fields(cls)}
        unknown = sorted(map(str, stored.keys() - known))
        if unknown:
            logger.warning("%r: %s in %s of %s is ignored", str(name_or_path), listed(unknown), CONFIG_KEY, file)
        for key in known & stored.keys():
            value = stored[key]
            if key == LANGUAGE_KEY:
                if value is not None and value not in KNOWN:
                    raise ValueError(
                        f"{place} {key} {short(repr(value))}; expected one of {' '.join(KNOWN)}: correct it there, or remove it"
                    )
                continue
            if value is not None and not _is_finite_number(value):
                flag = key in (THRESHOLD_KEY, ANSWER_SCORE_KEY)
                way_out = f"and give --{key}" if flag else f"and run {script} again"
                raise ValueError(
                    f"{place} {key} {short(repr(value))}; expected a finite number: correct it there, or remove it {way_out}"
                )
        policy = cls(**{key: stored[key] for key in known & stored.keys()})
        if (least := policy.min_answer_score) is not None and not 0 <= least <= 1:
            raise ValueError(
                f"{place} {ANSWER_SCORE_KEY} {least}; expected a number from 0 to 1: correct it there, or remove it and give "
                f"--{ANSWER_SCORE_KEY}"
            )
        if (found := policy._wrong_calibration()) is not None:
            raise ValueError(f"{place} {found}: correct it there, or remove all three and run {script} again")
        return policy

    def _wrong_calibration(self) -> str | None:
        """What is wrong with three finite numbers, and what is expected."""
        temperature, weight, bias = self.temperature, self.null_odds_weight, self.null_odds_bias
        if temperature is not None and temperature <= 0:
            return f"temperature {temperature}; expected a number above 0"
        if (weight is None) != (bias is None) or (temperature is None and weight is not None):
            keys = ("temperature", "null_odds_weight", "null_odds_bias")
            given = [key for key in keys if getattr(self, key) is not None]
            return f"of a calibration {listed(given)} alone; expected {listed(keys)}, or temperature alone"
        return None

    def store(self, model_config: "PretrainedConfig") -> None:
        """Put the policy into the config that is saved with the model; an older key there is removed."""
        if hasattr(model_config, THRESHOLD_KEY):
            delattr(model_config, THRESHOLD_KEY)
        setattr(model_config, CONFIG_KEY, self.as_dict())

    def store_in_file(self, path: Path) -> None:
        """Put the policy into a config.json; the rest of it stays as it is. All or nothing."""
        content = read_json(path)
        assert isinstance(content, dict), "a model was loaded from it"
        content.pop(THRESHOLD_KEY, None)
        stored = content.get(CONFIG_KEY) or {}
        later = {key: value for key, value in stored.items() if key not in {field.name for field in fields(self)}}
        files.write_text(path, json.dumps(content | {CONFIG_KEY: self.as_dict() | later}, indent=2) + "\n")

    def as_dict(self) -> dict[str, float | str | None]:
        """A model without a calibration gets no keys for it, and one for English no language."""
        return {key: value for key, value in asdict(self).items() if key == THRESHOLD_KEY or value is not None}

    def apply(self, config: SpanConfig, *, several: bool = False) -> SpanConfig:
        """Settings for post-processing: the threshold of the flag, else the stored one, else 0.

        `several`: list several answers per question, by the least score of the flag, else the stored one, else 0.1.
        """
        given, stored = config.null_score_diff_threshold, self.null_score_diff_threshold
        threshold = given if given is not None else (stored or 0.0)
        if not several:
            return replace(config, null_score_diff_threshold=threshold, min_answer_score=None)
        scores = (config.min_answer_score, self.min_answer_score, UNTUNED)
        least = next(score for score in scores if score is not None)
        return replace(config, null_score_diff_threshold=threshold, min_answer_score=least)


def _is_finite_number(value: object) -> bool:
    """JSON in Python has NaN, Infinity and integers that no float holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
