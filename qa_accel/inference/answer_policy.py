"""When a model answers and when it says "no answer": one dictionary in the model's config.json, tuned by training.

`"answer_policy": {"null_score_diff_threshold": -1.25}`; later settings of the kind become further keys of it.
"""

import logging
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from transformers import PretrainedConfig

from qa_accel.inference.postprocess import SpanConfig
from qa_accel.messages import listed, short

logger = logging.getLogger(__name__)

CONFIG_KEY = "answer_policy"
"""Name of the dictionary in config.json."""
THRESHOLD_KEY = "null_score_diff_threshold"
"""Older models have this one number at the top of config.json instead. It is still read."""


@dataclass(frozen=True)
class AnswerPolicy:
    null_score_diff_threshold: float | None = None
    """Null odds above which a question is answered with ""; None: never tuned."""

    @classmethod
    def of_model(cls, model_config: PretrainedConfig, name_or_path: str | Path) -> "AnswerPolicy":
        """The policy stored with a model. Raises ValueError, with `name_or_path`, for one that cannot be read."""
        stored = getattr(model_config, CONFIG_KEY, None)
        if stored is None:
            stored = {THRESHOLD_KEY: getattr(model_config, THRESHOLD_KEY, None)}
        place = f"{str(name_or_path)!r}: config.json has"
        if not isinstance(stored, dict):
            raise ValueError(f"{place} {CONFIG_KEY} {short(repr(stored))}; expected a mapping")
        known = {field.name for field in fields(cls)}
        unknown = sorted(stored.keys() - known)
        if unknown:
            logger.warning("%r: %s in %s of config.json is ignored", str(name_or_path), listed(unknown), CONFIG_KEY)
        for key in known & stored.keys():
            value = stored[key]
            if value is not None and not _is_finite_number(value):
                raise ValueError(
                    f"{place} {key} {short(repr(value))}; expected a finite number: correct it there, or remove it "
                    "and give --null_score_diff_threshold"
                )
        return cls(**{key: stored[key] for key in known & stored.keys()})

    def store(self, model_config: PretrainedConfig) -> None:
        """Put the policy into the config that is saved with the model; an older key there is removed."""
        if hasattr(model_config, THRESHOLD_KEY):
            delattr(model_config, THRESHOLD_KEY)
        setattr(model_config, CONFIG_KEY, asdict(self))

    def apply(self, config: SpanConfig) -> SpanConfig:
        """Settings for post-processing: the threshold of the flag, else the stored one, else 0."""
        given, stored = config.null_score_diff_threshold, self.null_score_diff_threshold
        return replace(config, null_score_diff_threshold=given if given is not None else (stored or 0.0))


def _is_finite_number(value: object) -> bool:
    """JSON in Python has NaN, Infinity and integers that no float holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
