"""python docs/generate_cli.py

Writes docs/cli.md: every command of `qa-accel` with every flag, its default and its docstring, read from the settings classes.
tests/test_docs.py fails where the committed page differs from what this script writes.
"""

import ast
import dataclasses
import importlib
import inspect
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

from qa_accel import cli

PAGE = Path(__file__).parent / "cli.md"

HEAD = """\
# Command line

This page is generated: `python docs/generate_cli.py`. The flags are the fields of the settings classes; their text is the
docstring of the field. `qa-accel COMMAND --help` prints the same.

```bash
qa-accel train --config scripts/recipes/squad_v2.yaml --learning_rate 5e-5
accelerate launch --config_file accelerate_configs/multi_gpu.yaml --num_processes 8 -m qa_accel.cli train \\
    --config scripts/recipes/squad_v2.yaml
accelerate launch --config_file accelerate_configs/multi_gpu.yaml --num_processes 8 scripts/train.py \\
    --config scripts/recipes/squad_v2.yaml
```

The second and third line do the same. Rules for all commands:

- `--config FILE.yaml` reads a recipe: a flat YAML mapping whose keys are the flags' names. Flags win over recipes, a later
  recipe wins over an earlier one, recipes win over defaults.
- A switch is written `--flag`, `--no_flag`, `--flag true` or `--flag false`. Dashes and underscores in names are the same.
- A list takes its values one after the other: `--train_file a.json b.json`.
- A wrong flag, recipe or value ends the command with exit code 2 and one message, before any data is read.

"""


@dataclasses.dataclass(frozen=True)
class Flag:
    name: str
    """As it is typed."""
    values: str
    default: str
    text: str


def page() -> str:
    """All of cli.md."""
    described: dict[type, str] = {}  # settings class -> the command that lists its flags
    parts = [HEAD, _table(("command", "what it does"), [(f"[{name}](#{name})", what) for name, what in cli.COMMANDS.items()])]
    for name in cli.COMMANDS:
        module = importlib.import_module(f"qa_accel.commands.{name}")
        parts.append(f"\n## {name}\n\n{_description(module.__doc__ or '')}")
        if module.Config in described:
            other = described[module.Config]
            parts.append(f"\nTakes the settings of a training run: the flags of [{other}](#{other}).\n")
            continue
        described[module.Config] = name
        for title, flags in _groups(module.Config):
            rows = [(f"`{flag.name}`", flag.values, flag.default, flag.text) for flag in flags]
            parts.append(f"\n**{title}**\n\n" + _table(("flag", "value", "default", "meaning"), rows))
    return "".join(parts)


def _description(docstring: str) -> str:
    """A module's docstring as Markdown: paragraphs that are a command become a block of code."""
    paragraphs = textwrap.dedent(docstring).strip().split("\n\n")
    commands = ("accelerate launch ", "python ", "qa-accel ")
    return "\n\n".join(
        f"```bash\n{paragraph}\n```" if paragraph.startswith(commands) else paragraph for paragraph in paragraphs
    ) + "\n"


def _groups(config_class: type) -> list[tuple[str, list[Flag]]]:
    """A command's own flags first, then those of each nested settings class, in the order of the fields."""
    types_of = typing.get_type_hints(config_class, include_extras=True)
    own: list[Flag] = []
    nested: list[tuple[str, list[Flag]]] = []
    texts = attribute_docstrings(config_class)
    for field in dataclasses.fields(config_class):
        kind = types_of[field.name]
        if dataclasses.is_dataclass(kind):
            nested += _groups(typing.cast(type, kind))
        else:
            own.append(_flag(field, kind, texts.get(field.name, "")))
    title = config_class.__name__.removesuffix("Config")
    return ([(title, own)] if own else []) + nested


def _flag(field: dataclasses.Field, kind: Any, text: str) -> Flag:
    positional = typing.get_origin(kind) is typing.Annotated  # tyro.conf.Positional, the only mark that is in use
    if positional:
        kind = typing.get_args(kind)[0]
    name = field.name.upper() if positional else f"--{field.name}"
    return Flag(name, _values(kind), _default(field), " ".join(text.split()))


def _values(kind: Any) -> str:
    """What may be given, in words: `number`, `a` or `b`, ..."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_values(part) for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"{_values(typing.get_args(kind)[0])}, one or more"
    names = {bool: "switch", int: "integer", float: "number", str: "text", Path: "path"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _default(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None or field.default == ():
        return "not set"
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    if isinstance(field.default, tuple):
        return "`" + " ".join(map(str, field.default)) + "`"
    return f"`{field.default}`"


def attribute_docstrings(config_class: type) -> dict[str, str]:
    """Field name -> the string below it in the class's source, which Python itself throws away."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement, following in zip(definition.body, definition.body[1:]):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            found[statement.target.id] = str(following.value.value)
    return found


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
