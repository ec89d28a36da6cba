"""A sweep's file -> what is fixed and what is searched, checked against the settings of a training run.

    recipe: scripts/recipes/squad_v2.yaml      # a train recipe; may be left out
    settings: {num_train_epochs: 2}            # fixed for all trials; wins over the recipe
    space:
      learning_rate: {low: 1.0e-5, high: 1.0e-4, log: true}
      per_device_train_batch_size: [8, 16, 32]
      warmup_ratio: {low: 0.0, high: 0.2, step: 0.05}

Values have the type of the setting, as in a recipe. No torch: the settings' types are an argument.
"""

import difflib
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from qa_accel import recipe_yaml
from qa_accel.messages import listed
from qa_accel.recipe_yaml import shortened

SECTIONS = ("recipe", "settings", "space")
RANGE_KEYS = ("low", "high", "log", "step")
MOST = 2**53
"""Of an integer's range: floating-point numbers, which samplers draw, have every integer up to here."""
RESERVED = {
    "output_dir": "each trial has its own folder, below the sweep's --output_dir",
    "overwrite_output_dir": "a trial that was interrupted is resumed",
    "resume_from_checkpoint": "a trial that was interrupted is resumed from its own checkpoints",
    "resume_with_changed_settings": "a trial's settings do not change",
    "max_train_hours": "a run that it stops is to go on with the next start, so that it ends the worker too; limit the training "
    "with num_train_epochs or max_train_steps",
    "push_to_hub": "every trial would be uploaded; upload the best one with scripts/report.py",
}
"""Settings that a sweep decides itself, with the reason."""


@dataclass(frozen=True)
class Parameter:
    """One setting that is searched."""

    name: str
    kind: Literal["float", "int", "choice"]
    low: float | None = None
    """Of a range; both bounds belong to it."""
    high: float | None = None
    log: bool = False
    """Uniform in the logarithm."""
    step: float | None = None
    """The values are low, low + step, ...; None: every number of a range, every integer of one of integers."""
    choices: tuple[Any, ...] = ()
    """As a recipe holds them: numbers, texts, switches, None, lists."""

    def as_dict(self) -> dict[str, Any]:
        """What `from_dict` reads, without what is not set."""
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {
            name: value for name, value in found.items() if value is not None and value is not False and value != []
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Parameter":
        return cls(**{**content, "choices": tuple(content.get("choices", ()))})

    @property
    def values_to_check(self) -> list[Any]:
        """The values that decide whether all are possible: every choice, both ends of a range."""
        return list(self.choices) if self.kind == "choice" else [self.low, self.high]


@dataclass(frozen=True)
class Space:
    """What a sweep's file says."""

    parameters: tuple[Parameter, ...]
    """In the file's order."""
    fixed: dict[str, Any]
    """Setting -> value for all trials: those of the recipe, then those of `settings`."""


def read_space(path: Path, kinds: Mapping[str, Any], defaults: Mapping[str, Any]) -> Space:
    """The file's content. `kinds`, `defaults`: of a training run's settings, as `config.setting_types` and `defaults` give them.

    Raises ValueError, with file and setting, for names that no setting has and values that a setting of this type cannot have.
    """
    content = _mapping(path, path)
    _check_names(f"{path}", content, SECTIONS, "section")
    recipe = content.get("recipe")
    if recipe is not None and not isinstance(recipe, str):
        raise ValueError(f"{path}: recipe must be the path of a train recipe, found {shortened(recipe)}")
    fixed: dict[str, Any] = {}
    if recipe is not None:
        fixed |= _of_recipe(Path(recipe), f"{path}: recipe {recipe}", kinds, defaults)
    fixed |= _settings(_section(content, "settings", path), f"{path}: settings", kinds)
    searched = _section(content, "space", path)
    place = f"{path}: space"
    if not searched:
        raise ValueError(f"{place} is empty; name at least one setting with its values or its range")
    _check_settings(place, searched, kinds)
    parameters = tuple(_parameter(name, value, kinds[name], f"{place}: {name}") for name, value in searched.items())
    return Space(parameters, {name: value for name, value in fixed.items() if name not in searched})


def check_values(space: Space, place: str, refusal: Callable[[dict[str, Any]], str | None]) -> None:
    """Raises ValueError for a value, fixed or searched, that its setting refuses whatever the others are: one out of the
    setting's range.

    `refusal`: settings of a run -> why they cannot be, or None. What only a combination makes impossible is a failed trial.
    """
    for parameter in space.parameters:
        for value in parameter.values_to_check:
            reason = refusal(space.fixed | {parameter.name: value})
            if reason is None:
                continue
            if f"--{parameter.name} must be" in reason:
                raise ValueError(f"{place}: space: {parameter.name}: {reason}")
            if (name := next((name for name in space.fixed if f"--{name} must be" in reason), None)) is not None:
                raise ValueError(f"{place}: {name}, of settings or recipe: {reason}")


def _of_recipe(path: Path, place: str, kinds: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Without its output_dir, and what a sweep decides itself: a run's config.yaml has all of these, at their defaults."""
    found = _mapping(path, place)
    _check_names(place, found, kinds, "setting")
    dropped = {
        name for name in RESERVED.keys() & found if _value(found[name], kinds[name], place) == defaults.get(name)
    }
    return _settings({name: found[name] for name in found if name not in {*dropped, "output_dir"}}, place, kinds)


def _mapping(path: Path, place: object) -> dict[Any, Any]:
    if not path.exists():
        raise ValueError(f"{place}: there is no such file")
    try:
        return recipe_yaml.read_mapping(path)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _section(content: Mapping[Any, Any], name: str, path: Path) -> dict[Any, Any]:
    found = content.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path}: {name} must be `setting: value` lines, found {shortened(found)}")
    return found


def _settings(found: Mapping[Any, Any], place: str, kinds: Mapping[str, Any]) -> dict[str, Any]:
    _check_settings(place, found, kinds)
    return {name: _value(value, kinds[name], f"{place}: {name}") for name, value in found.items()}


def _check_settings(place: str, found: Mapping[Any, Any], kinds: Mapping[str, Any]) -> None:
    for name in found:
        if name in RESERVED:
            raise ValueError(f"{place}: {name} cannot be set in a sweep: {RESERVED[name]}")
    _check_names(place, found, kinds, "setting")


def _check_names(place: str, found: Mapping[Any, Any], known: Any, what: str) -> None:
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "scripts/train.py --help lists all settings"
            if what != "setting":
                hint = f"expected {listed(known)}" if not near else hint
            raise ValueError(f"{place}: unknown {what} {shortened(name)}; {hint}")


def _parameter(name: str, found: Any, kind: Any, place: str) -> Parameter:
    if isinstance(found, list):
        if not found:
            raise ValueError(f"{place} has no choices; give at least one")
        choices = tuple(_value(value, kind, place) for value in found)
        if twice := [value for position, value in enumerate(choices) if value in choices[:position]]:
            raise ValueError(f"{place} has the choice {shortened(twice[0])} twice; name each once")
        return Parameter(name, "choice", choices=choices)
    if not isinstance(found, dict):
        raise ValueError(f"{place} must be a list of choices or {{low, high}}, found {shortened(found)}")
    _check_names(place, found, RANGE_KEYS, "key")
    return _range(name, found, kind, place)


def _range(name: str, found: Mapping[str, Any], kind: Any, place: str) -> Parameter:
    members = _members(kind)
    number = float if float in members else int if int in members else None
    if number is None:
        raise ValueError(f"{place} is no number, so it cannot have a range; give a list of choices")

    def read(key: str) -> Any:
        try:
            value = number(found[key])
        except (TypeError, ValueError):
            expected = "an integer" if number is int else "a number"
            raise ValueError(f"{place}: {key} must be {expected}, found {shortened(found.get(key))}") from None
        if number is int and abs(value) > MOST:
            raise ValueError(f"{place}: {key} must be at most 2**53 on either side of 0, found {shortened(found[key])}")
        if not math.isfinite(value):
            raise ValueError(f"{place}: {key} must be finite, found {value}")
        return value

    for key in ("low", "high"):
        if key not in found:
            raise ValueError(f"{place} has no {key}; a range has both, low and high")
    low, high = read("low"), read("high")
    step = read("step") if found.get("step") is not None else None
    log = recipe_yaml.truth(found.get("log", "false"))
    if log is None:
        raise ValueError(f"{place}: log must be true or false, found {shortened(found['log'])}")
    if not low < high:
        raise ValueError(f"{place}: low must be less than high, found {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"{place}: low must be more than 0 where log is true, found {low}")
    if step is not None and (log or not 0 < step <= high - low):
        reason = "has no meaning where log is true" if log else f"must be in (0, {high - low:g}], found {step}"
        raise ValueError(f"{place}: step {reason}")
    return Parameter(name, "int" if number is int else "float", low, high, log, step)


def _members(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _value(found: Any, kind: Any, place: str) -> Any:
    """The value with the setting's type. Scalars of the file are texts, as `recipe_yaml` reads them."""
    expected = recipe_yaml.expected_instead(found, kind)
    if expected is not None:
        raise ValueError(f"{place} must be {expected}, found {shortened(found)}")
    members = _members(kind)
    if found is None or (found == str(None) and type(None) in members):
        return None
    if isinstance(found, list):
        return [str(value) for value in found]
    if bool in members:
        return recipe_yaml.truth(found)
    for number in (int, float):
        if number in members:
            return number(found)
    return found
