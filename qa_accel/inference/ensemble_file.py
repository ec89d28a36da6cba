"""ensemble.json: the members of an ensemble, and when it answers. Written by scripts/ensemble.py, read by `Reader`.

{"members": [{"folder": "../seed-1", "weight": 0.5, "max_seq_length": 384, ...}, {"model": "name/on-the-hub", ...}],
 "answer_policy": {"null_score_diff_threshold": -1.2, ...}, ...}

A folder counts from the ensemble's own, so that both can be moved together.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from qa_accel.data.settings import WindowConfig
from qa_accel.inference.answer_policy import ANSWER_SCORE_KEY, CONFIG_KEY, THRESHOLD_KEY, AnswerPolicy
from qa_accel.inference.settings import SpanConfig
from qa_accel.input_files import read_json
from qa_accel.messages import shown
from qa_accel.run_layout import ENSEMBLE

MOST = 100
"""Members of one ensemble."""
LEAST_WEIGHT = 1e-9
POLICY_KEYS = (THRESHOLD_KEY, ANSWER_SCORE_KEY)
"""Settings of answers that are no member's: they are the ensemble's policy."""
AGAIN = "run scripts/ensemble.py again"


@dataclass(frozen=True)
class EnsembleMember:
    model: str
    """The folder of a model, or its name on the hub."""
    windows: WindowConfig | None
    """Those that its answers were computed with, as are the next; None: the defaults."""
    spans: SpanConfig | None
    weight: float = 1.0


@dataclass(frozen=True)
class Ensemble:
    members: Sequence[EnsembleMember]
    policy: AnswerPolicy


def is_ensemble(model: Any) -> bool:
    """Whether this is the folder of an ensemble."""
    return isinstance(model, str) and "\0" not in model and os.path.isfile(os.path.join(model, ENSEMBLE))


def refuse_nested(model: str, place: str) -> None:
    """Raises ValueError for a member that is an ensemble: its own threshold would count for nothing."""
    if is_ensemble(model):
        raise ValueError(f"{place}: {model!r} is an ensemble itself; give its members in its place")


def member_entry(member: EnsembleMember, folder: Path) -> dict[str, Any]:
    """A member as it is written into the ensemble.json of `folder`."""
    is_folder = os.path.isdir(member.model)
    place = (
        {"folder": os.path.relpath(os.path.realpath(member.model), os.path.realpath(folder))}
        if is_folder
        else {"model": member.model}
    )
    spans = {name: value for name, value in asdict(member.spans or SpanConfig()).items() if name not in POLICY_KEYS}
    return place | {"weight": member.weight} | asdict(member.windows or WindowConfig()) | spans


def read(folder: str | Path) -> Ensemble:
    """Raises ValueError, with file and member, for what cannot work: damage, absent folders, a member that is an ensemble."""
    path = Path(folder, ENSEMBLE)
    content = read_json(path)
    listed = content.get("members") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(listed, list) or not 2 <= len(listed) <= MOST:
        found = content if listed is None or not isinstance(listed, list) else f"{len(listed)} members"
        raise ValueError(f"{path}: expected an object with 2 to {MOST} members, found {shown(found)}; {AGAIN}")
    members = [_member(entry, path, place) for place, entry in enumerate(listed)]
    places = [os.path.realpath(member.model) for member in members]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise ValueError(f"{path}: {twice!r} is a member twice; {AGAIN}")
    policy = AnswerPolicy.of_file(content.get(CONFIG_KEY, {}), path.parent, ENSEMBLE, "scripts/ensemble.py")
    return Ensemble(members, policy)


def _member(entry: Any, path: Path, place: int) -> EnsembleMember:
    where = f"{path}: member {place}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected an object, found {shown(entry)}; {AGAIN}")
    relative, model = entry.get("folder"), entry.get("model")
    has_folder, has_model = (isinstance(given, str) and bool(given.strip()) for given in (relative, model))
    if has_folder == has_model:
        raise ValueError(
            f"{where}: expected either folder or model as text, found folder {shown(relative)} and model {shown(model)}; {AGAIN}"
        )
    if has_folder:
        model = os.path.normpath(os.path.join(path.parent, str(relative)))
        if not _can_be_a_path(model) or not os.path.isdir(model):
            raise ValueError(
                f"{where}: there is no folder {shown(relative)} beside this ensemble: members are found from the folder that "
                f"ensemble.json is in; move them along with it, or {AGAIN}"
            )
    assert isinstance(model, str), "one of both is a text"
    if not _can_be_a_path(model):
        raise ValueError(
            f"{where}: model {shown(model)} has a character that no name of a model or folder has; {AGAIN}"
        )
    refuse_nested(model, where)
    weight = entry.get("weight", 1.0)
    if type(weight) not in (int, float) or not LEAST_WEIGHT <= weight <= 1:
        raise ValueError(f"{where}: weight is {shown(weight)}; a number above 0, at most 1, is expected: {AGAIN}")
    return EnsembleMember(model, _settings(WindowConfig, entry, where), _settings(SpanConfig, entry, where), weight)


def _can_be_a_path(text: str) -> bool:
    """Not with a NUL, nor with half of a surrogate pair, which is no byte."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _settings(kind: Any, entry: dict[str, Any], where: str) -> Any:
    """Of a settings class those that the entry has; all of them are whole numbers. None: it has none of them."""
    given = {field.name: entry[field.name] for field in fields(kind) if field.name in entry}
    for name in POLICY_KEYS:
        given.pop(name, None)
    if (wrong := next((name for name, value in given.items() if type(value) is not int), None)) is not None:
        raise ValueError(f"{where}: {wrong} is {shown(given[wrong])}; a whole number is expected: {AGAIN}")
    try:
        return kind(**given) if given else None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
