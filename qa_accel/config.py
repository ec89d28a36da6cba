"""Defaults < recipe (`--config file.yaml`) < flags -> one frozen dataclass; and back to a file that reads the same.

A module's settings are its own dataclass; a script's config nests them. Flags are flat (`--learning_rate`), so a field's
name is unique within a script. A recipe is a flat YAML mapping whose keys are the flags' names.
"""

import dataclasses
import difflib
import io
import os
import sys
import types
import typing
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from qa_accel import recipe_yaml
from qa_accel.messages import shown
from qa_accel.terminal import visible_lines

Config = TypeVar("Config")


LONGEST_ARGUMENT = 4096
"""Characters of one word; no path is longer, and messages repeat what is wrong."""


def setting_types(config_class: type) -> dict[str, Any]:
    """Field name -> annotated type of every leaf setting, nested dataclasses flattened in order."""
    settings: dict[str, Any] = {}
    for name, annotation in typing.get_type_hints(config_class).items():
        nested = (
            setting_types(annotation)
            if isinstance(annotation, type) and dataclasses.is_dataclass(annotation)
            else {name: annotation}
        )
        twice = settings.keys() & nested.keys()
        assert not twice, f"{config_class.__name__} has the settings {sorted(twice)} twice; flags are flat"
        settings.update(nested)
    return settings


def parse(config_class: type[Config], argv: list[str] | None = None, description: str | None = None) -> Config:
    """The config of a command line. Exits with code 2 and one message on an unknown flag or key or a bad value."""
    settings = setting_types(config_class)
    recipes, flags = _without_recipes(sys.argv[1:] if argv is None else list(argv))
    arguments = []
    for path in recipes:
        arguments += _as_flags(path, read_recipe(path, settings), settings)
    flags = _spelled_out(flags, settings)
    _check_texts(flags)
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(
                config_class,
                args=arguments + flags,
                description=f"{description or ''}\n\n--config FILE reads a recipe (YAML); flags win over it.",
                use_underscores=True,
                config=(tyro.conf.OmitArgPrefixes,),
                console_outputs=_speaks(),
            )
    except ValueError as error:  # a dataclass's own check
        _fail(str(error))
    finally:
        print(visible_lines(complaint.getvalue()), end="", file=sys.stderr)


def read_recipe(path: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The mapping in a recipe file, numbers as they are written. Exits with code 2 if it is unreadable or names a setting
    that does not exist."""
    recipe = _mapping(path)
    for key in recipe:
        if key not in settings:
            near = difflib.get_close_matches(str(key), settings, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "--help lists all settings"
            _fail(f"--config {path}: unknown setting {recipe_yaml.shortened(key)}; {hint}")
    return recipe


def _mapping(path: str) -> dict[str, Any]:
    try:
        return recipe_yaml.read_mapping(Path(path))
    except ValueError as error:
        _fail(f"--config {path}: {error}")


def peek_setting(name: str, argv: list[str]) -> str:
    """One setting of a command line as it was written, from a flag or else from a recipe; the rest is not looked at.

    For job scripts, which need a run's folder before there is a run. Exits with code 2 where nothing sets it.
    """
    recipes, flags = _without_recipes(argv)
    found = None
    for recipe in recipes:
        found = _mapping(recipe).get(name, found)
    for position, flag in enumerate(flags):
        spelling, equals, value = flag.partition("=")
        if spelling.replace("-", "_") == f"__{name}":
            found = value if equals else "".join(flags[position + 1 : position + 2])
    if found is None:
        _fail(f"--{name} is set neither by a flag nor by a recipe")
    if not isinstance(found, str):
        _fail(f"--{name} must be one value, found {recipe_yaml.shortened(found)}")
    _check_texts([f"--{name}={found}"])
    return found


def as_dict(config: Any) -> dict[str, Any]:
    """Flat mapping setting -> plain value (tuples as lists), as a recipe holds it."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            flat.update(as_dict(value))
        else:
            flat[field.name] = list(value) if isinstance(value, tuple) else value
    return flat


def defaults(config_class: type) -> dict[str, Any]:
    """Flat mapping setting -> its default as a recipe holds it, without the settings that have none."""
    flat: dict[str, Any] = {}
    kinds = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind = kinds[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            flat.update(defaults(kind))
        elif field.default is not dataclasses.MISSING:
            flat[field.name] = list(field.default) if isinstance(field.default, tuple) else field.default
    return flat


def changed(config: Any) -> dict[str, Any]:
    """As `as_dict`, without the settings that have their default; those that have none are there."""
    own = defaults(type(config))
    return {name: value for name, value in as_dict(config).items() if name not in own or own[name] != value}


def dump(config: Any) -> str:
    """A recipe that gives this config back, every setting written out."""
    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True)


def written_settings(config_class: type, settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A stage's own settings out of those that a run wrote; those that this version does not know are left out.

    Raises ValueError, with `path`, for a value of another type than the setting's.
    """
    found = {}
    for name, kind in setting_types(config_class).items():
        value = settings.get(name)
        if value is None:
            continue
        if not _fits(value, kind):
            raise ValueError(f"{path}: {name} cannot be {shown(value)}; the run wrote another value")
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value that YAML gives, and that is not null, is of a setting's type."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    for one in kinds:
        if typing.get_origin(one) is tuple:
            fits = isinstance(value, list) and all(isinstance(each, str) for each in value)
        elif typing.get_origin(one) is typing.Literal:
            fits = value in typing.get_args(one)
        else:
            fits = type(value) is one or (one is float and type(value) is int)
        if fits:
            return True
    return False


def _without_recipes(argv: list[str]) -> tuple[list[str], list[str]]:
    recipes, rest = [], []
    position = 0
    while position < len(argv):
        argument = argv[position]
        if argument == "--config":
            if position + 1 == len(argv):
                _fail("--config needs a file")
            recipes.append(argv[position + 1])
            position += 2
            continue
        if argument.startswith("--config="):
            recipes.append(argument.partition("=")[2])
        else:
            rest.append(argument)
        position += 1
    return recipes, rest


def _as_flags(path: str, recipe: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Exits with code 2, with file and key, for a value that the setting cannot have."""
    arguments = []
    for key, value in recipe.items():
        expected = recipe_yaml.expected_instead(value, settings[key])
        if expected is not None:
            _fail(f"--config {path}: {key} must be {expected}, found {recipe_yaml.shortened(value)}")
        if settings[key] is bool:
            words = [f"--{key}" if recipe_yaml.truth(value) else f"--no_{key}"]
        elif _is_optional_bool(settings[key]):
            words = [f"--{key}={recipe_yaml.truth(value)}"]
        elif isinstance(value, list):
            words = [f"--{key}", *map(str, value)]
        else:
            words = [f"--{key}={value}"]  # one word: a value may begin with a dash
        _check_texts(words, f"--config {path}: ")
        arguments += words
    return arguments


def _check_texts(arguments: list[str], place: str = "") -> None:
    """Exits with code 2 for a text that is no setting's: an empty one, or one that no file's name can be."""
    name = "an argument"
    for word in arguments:
        if len(word) > LONGEST_ARGUMENT:
            _fail(f"{place}{name}: an argument of {len(word):,} characters, {word[:40]}..., is too long")
        value = word
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if not equals:
                continue
        if not value.strip():
            _fail(f"{place}{name} is empty; give a value, or leave it out (is a variable of the shell not set?)")
        if "\0" in value:
            _fail(f"{place}{name} {value}: holds a NUL character, which no name can have")
        try:
            value.encode()
        except UnicodeEncodeError:
            _fail(f"{place}{name} {value}: is not UTF-8; rename the file or folder, or check the terminal's encoding")


def _spelled_out(flags: list[str], settings: dict[str, Any]) -> list[str]:
    """Hugging Face's spellings of a switch (`--flag`, `--flag true`, `--flag=False`) as the parser wants them."""
    switches = {name for name, kind in settings.items() if kind is bool}
    optional_switches = {name for name, kind in settings.items() if _is_optional_bool(kind)}
    arguments: list[str] = []
    words = [part for flag in flags for part in (flag.split("=", 1) if flag.startswith("--") else [flag])]
    for position, word in enumerate(words):
        name = word[2:].replace("-", "_") if word.startswith("--") else ""
        following = words[position + 1] if position + 1 < len(words) else "--"
        before = arguments[-1] if arguments else ""
        if before.removeprefix("--") in switches and word.lower() in ("true", "false"):
            if word.lower() == "false":
                arguments[-1] = f"--no_{before[2:]}"
        elif before.removeprefix("--") in optional_switches and word.lower() in ("true", "false", "none"):
            arguments.append(word.capitalize())
        elif name in optional_switches and following.startswith("--"):
            arguments += [f"--{name}", "True"]
        else:
            arguments.append(f"--{name}" if name in settings else word)
    return arguments


def _is_optional_bool(kind: Any) -> bool:
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return is_union and set(typing.get_args(kind)) == {bool, type(None)}


def _speaks() -> bool:
    """Whether this process reports errors of the command line, which are the same on every rank."""
    return os.environ.get("RANK", "0") == "0"


def _fail(message: str) -> typing.NoReturn:
    if _speaks():
        print(visible_lines(message), file=sys.stderr)
    raise SystemExit(2)
