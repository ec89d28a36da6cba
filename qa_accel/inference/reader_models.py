"""What the caller of `Reader` names -> its models, and when they answer together: a model, several, or an ensemble's folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qa_accel.data.settings import WindowConfig
from qa_accel.inference import ensemble_file, reader_backends
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.ensemble_file import EnsembleMember
from qa_accel.inference.reader_backends import ReaderModel
from qa_accel.inference.settings import SpanConfig
from qa_accel.messages import shown

Models = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class ReaderModels:
    members: tuple[ReaderModel, ...]
    weights: tuple[float, ...]
    spans: SpanConfig
    """With the threshold that decides."""
    min_answer_score: float
    """The least score of one of several answers."""
    calibration: Calibration | None


def load(
    given: Models,
    backend: str,
    windows: WindowConfig | None,
    spans: SpanConfig | None,
    batch_size: int | None,
    min_confidence: float | None,
    **options: Any,
) -> ReaderModels:
    """`options`: as of `reader_backends.load`. Raises ValueError for what cannot work."""
    name = _name(given)
    of_one = None if spans is None else replace(spans, min_answer_score=None)
    if not isinstance(name, list) and not ensemble_file.is_ensemble(name):
        model = reader_backends.load(name, backend, windows, min_confidence, of_one, batch_size, **options)
        policy = model.qa.answer_policy
        return ReaderModels((model,), (1.0,), policy.apply(model.spans), _least(policy, spans), model.calibration)
    if not isinstance(name, list):
        ensemble = ensemble_file.read(name)
        found, policy = ensemble.members, ensemble.policy
    else:
        found, policy = [EnsembleMember(one, None, None) for one in _members(name)], None
        if min_confidence is not None:
            raise ValueError(
                "min_confidence: models that are given as a list have no calibration in common; run scripts/ensemble.py on their "
                "answers to questions with gold answers, and give its folder"
            )
    if min_confidence is not None and policy is not None and policy.temperature is None:
        raise ValueError(
            f"min_confidence: the ensemble {name!r} is not calibrated; run scripts/ensemble.py with questions that have gold answers"
        )
    members = tuple(
        reader_backends.load(
            one.model, backend, windows or one.windows, None, of_one or one.spans, batch_size, **options
        )
        for one in found
    )
    policy = policy or AnswerPolicy(mean_threshold([member.qa.answer_policy for member in members]))
    largest = max((member.spans for member in members), key=lambda each: each.n_best_size)
    calibration = policy.calibration(version_2_with_negative=False)
    weights = tuple(one.weight for one in found)
    return ReaderModels(members, weights, policy.apply(largest), _least(policy, spans), calibration)


def _least(policy: AnswerPolicy, spans: SpanConfig | None) -> float:
    found = policy.apply(spans or SpanConfig(), several=True).min_answer_score
    assert found is not None, "asked for several"
    return found


def mean_threshold(policies: Sequence[AnswerPolicy]) -> float | None:
    """Of models whose ensemble was never tuned: the mean of their own, on whose scale its null odds are; None if one has none."""
    own = [policy.null_score_diff_threshold for policy in policies]
    known = [threshold for threshold in own if threshold is not None]
    return sum(sorted(known)) / len(known) if len(known) == len(own) else None


def _name(given: Any) -> Any:
    """One name, or a list; a list of one model is that model."""
    if isinstance(given, Path):
        return str(given)
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        names = [str(one) if isinstance(one, Path) else one for one in given]
        if not names or len(names) > ensemble_file.MOST:
            raise ValueError(f"{len(names)} models; expected 1 to {ensemble_file.MOST}")
        return names[0] if len(names) == 1 and isinstance(names[0], str) else names
    return given  # what is no name at all is refused where a model is loaded


def _members(names: list[Any]) -> list[str]:
    """Raises ValueError for what is no name, for a model that comes twice, and for an ensemble."""
    for place, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"model {place} is {shown(name)}; expected the folder of a model, or its name on the hub")
        ensemble_file.refuse_nested(name, f"model {place}")
    places = [os.path.realpath(name) if os.path.isdir(name) else name for name in names]
    if twice := next((name for name, place in zip(names, places) if places.count(place) > 1), None):
        raise ValueError(f"{twice!r} is given twice; an ensemble counts each model once")
    return names
