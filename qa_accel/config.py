"""Defaults < recipe (`--config file.yaml`) < flags -> one frozen dataclass; and back to a file that reads the same.

A module's settings are its own dataclass; a script's config nests them. Flags are flat (`--learning_rate`), so a field's
name is unique within a script. A recipe is a flat YAML mapping whose keys are the flags' names.
"""

import dataclasses
import difflib
import os
import sys
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

Config = TypeVar("Config")


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
    for recipe in recipes:
        arguments += _as_flags(read_recipe(recipe, settings), settings)
    arguments += _spelled_out(flags, settings)
    try:
        return tyro.cli(
            config_class,
            args=arguments,
            description=f"{description or ''}\n\n--config FILE reads a recipe (YAML); flags win over it.",
            use_underscores=True,
            config=(tyro.conf.OmitArgPrefixes,),
            console_outputs=_speaks(),
        )
    except ValueError as error:  # a dataclass's own check
        _fail(str(error))


def read_recipe(path: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The mapping in a recipe file. Exits with code 2 if it is unreadable or names a setting that does not exist."""
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        _fail(f"--config {path}: cannot be read as YAML: {error}")
    if recipe is None:
        return {}
    if not isinstance(recipe, dict):
        _fail(f"--config {path}: expected `setting: value` lines, found a {type(recipe).__name__}")
    for key in recipe:
        if key not in settings:
            near = difflib.get_close_matches(str(key), settings, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(sorted(settings))}"
            _fail(f"--config {path}: unknown setting {key!r}; {hint}")
    return recipe


def peek_setting(name: str, argv: list[str]) -> str:
    """One setting of a command line as it was written, from a flag or else from a recipe; the rest is not looked at.

    For job scripts, which need a run's folder before there is a run. Exits with code 2 where nothing sets it.
    """
    recipes, flags = _without_recipes(argv)
    found = None
    for recipe in recipes:
        content = yaml.safe_load(Path(recipe).read_text(encoding="utf-8"))
        found = content.get(name, found) if isinstance(content, dict) else found
    for position, flag in enumerate(flags):
        spelling, equals, value = flag.partition("=")
        if spelling.replace("-", "_") == f"__{name}":
            found = value if equals else "".join(flags[position + 1 : position + 2])
    if found is None:
        _fail(f"--{name} is set neither by a flag nor by a recipe")
    return str(found)


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


def dump(config: Any) -> str:
    """A recipe that gives this config back, every setting written out."""
    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True)


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


def _as_flags(recipe: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    arguments = []
    for key, value in recipe.items():
        if settings[key] is bool:
            if not isinstance(value, bool):
                _fail(f"--config: {key} must be true or false, found {value!r}")
            arguments.append(f"--{key}" if value else f"--no_{key}")
        elif isinstance(value, list):
            arguments += [f"--{key}", *map(str, value)]
        else:
            arguments.append(f"--{key}={value}")  # one word: a value may begin with a dash
    return arguments


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
        print(message, file=sys.stderr)
    raise SystemExit(2)
