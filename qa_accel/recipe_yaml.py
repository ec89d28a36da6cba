"""A recipe file -> its mapping, with numbers and switches as the text that they are written as; or what is wrong with it.

YAML would read a folder `2024_01_05` as the number 20240105, and the choices `on` and `no` as switches. So only lists and
null become something else than text, and a setting's own type says what the text means.
"""

import reprlib
import types
import typing
from pathlib import Path
from typing import Any

import yaml

LARGEST_FILE = 1 << 20
"""Bytes. A recipe has a line per setting; what is larger is another file by mistake."""
_short = reprlib.Repr()
_short.maxstring, _short.maxlevel = 100, 2


class _Loader(yaml.SafeLoader):
    """Scalars stay text, but for null. A key that is given twice is an error: else the last one would win in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        first: dict[Any, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"the key in line {line} is a list or a mapping; a setting's name is expected")
            if key.value in first:
                raise ValueError(f"{shortened(key.value)} is given twice, in lines {first[key.value]} and {line}")
            first[key.value] = line
        return super().construct_mapping(node, deep)


def _float_text(loader: _Loader, node: Any) -> str:
    text = loader.construct_scalar(node)
    return str(loader.construct_yaml_float(node)) if text.lower().endswith((".inf", ".nan")) else text


for _tag in ("bool", "int", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", yaml.SafeLoader.construct_scalar)
_Loader.add_constructor("tag:yaml.org,2002:float", _float_text)


def read_mapping(path: Path) -> dict[Any, Any]:
    """Empty for an empty file. Raises ValueError, without the file's name, for anything but a mapping in YAML."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"is {'a folder' if path.is_dir() else 'a pipe or a device'}, not a file")
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"has {path.stat().st_size:,} bytes, which is too large for a recipe")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot be read as YAML: {error}") from error
    except RecursionError as error:
        raise ValueError("cannot be read as YAML: it is nested too deeply") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"expected `setting: value` lines, found a {type(content).__name__}")
    return content


def shortened(value: Any) -> str:
    """As Python writes it, but never long."""
    return _short.repr(value)


def expected_instead(value: Any, kind: Any) -> str | None:
    """What a setting of this type should have in place of the value of a recipe; None if the value will do.

    Numbers are read later, together with those of the command line, but for what only a person can take for a number.
    """
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if value == str(None) and type(None) in kinds:  # as on the command line
        return None
    if value is None:
        return None if type(None) in kinds else "a value (leave the line out for the default)"
    if bool in kinds:
        return "true or false" if truth(value) is None else None
    several = any(typing.get_origin(one) is tuple for one in kinds)
    if isinstance(value, list):
        if not several:
            return "one value, not a list"
        return None if all(isinstance(one, str) for one in value) else "a list of texts"
    if not isinstance(value, str):
        return "text, a number or a list" if several else "text or a number"
    for number in (int, float):
        if number in kinds and not _is(number, value):
            return "an integer" if number is int else "a number"
    choices = [choice for one in kinds if typing.get_origin(one) is typing.Literal for choice in typing.get_args(one)]
    return f"one of {', '.join(choices)}" if choices and value not in choices else None


def truth(value: Any) -> bool | None:
    """What a switch of a recipe means, as YAML has it (true, yes, on); None if it means neither."""
    return yaml.SafeLoader.bool_values.get(value.lower()) if isinstance(value, str) else None


def _is(number: type[int] | type[float], text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True
