"""A command as documentation shows it -> AssertionError if it could not be typed like that: a command, script, file, flag,
extra or make target that does not exist. Nothing is run."""

import importlib
import re
import runpy
import shlex
import sys
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest

from qa_accel import cli, config

REPOSITORY = Path(__file__).resolve().parents[2]
OF_THE_SHELL = ("cat", "echo", "head", "jq", "paste", "zcat")
"""What may come before and after our commands in a pipe."""
MODULE = "qa_accel.cli"
"""What `accelerate launch -m` starts."""


def of_markdown(path: Path) -> list[str]:
    """The commands in a file's ```bash blocks: continued lines joined, comments left out."""
    lines = "".join(blocks(path, "bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def blocks(path: Path, language: str) -> list[str]:
    """The contents of a file's blocks of code in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def check(command: str) -> Any:
    """The settings that the command would get, where it is one with a config; of a pipe those of its last such command."""
    reader = shlex.shlex(command, posix=True, punctuation_chars="|<>")
    reader.whitespace_split = True
    found, *others = pipe = _without_redirections(list(reader))
    if not others:
        return check_command(command, found)
    own = [words for words in pipe if words[0] not in OF_THE_SHELL]
    assert own, f"{command}: no part of this pipe is ours"
    return [check_command(command, words) for words in own][-1]


def _without_redirections(words: list[str]) -> list[list[str]]:
    """The commands of a pipe."""
    commands: list[list[str]] = [[]]
    rest = iter(words)
    for word in rest:
        if word == "|":
            commands.append([])
        elif word in ("<", ">", ">>"):
            next(rest)
        else:
            commands[-1].append(word)
    return commands


def check_command(command: str, words: list[str]) -> Any:
    """`words`: the command, or one part of the pipe that it is; variables may be set in front of it."""
    words = list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words))
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), f"{command}: make has {targets}"
        return None
    if words[0] == "source":
        assert (REPOSITORY / words[1]).is_file(), command
        return None
    if words[:2] == ["pip", "install"]:
        return check_install(words[2:])
    if words[0] in ("sbatch", "slurm/pipeline.sh"):
        return check_job(words)
    if words[0] == "qa-accel":
        return check_flags(words[1], words[2:])
    if words[:2] == ["accelerate", "launch"] and MODULE in words:
        place = words.index(MODULE)
        assert words[place - 1] == "-m", f"{command}: a module needs -m"
        check_launch(words[2 : place + 1])
        return check_flags(words[place + 1], words[place + 2 :])
    place = next((place for place, word in enumerate(words) if word.endswith(".py")), None)
    assert place is not None, f"{command}: expected make, pip install, qa-accel or a script"
    script, flags = REPOSITORY / words[place], words[place + 1 :]
    assert script.is_file(), f"{command}: there is no {words[place]}"
    if words[:2] == ["accelerate", "launch"]:
        check_launch(words[2 : place + 1])
    else:
        assert words[:place] == ["python"], command
    return check_script(script, flags)


def check_install(words: list[str]) -> None:
    """This package, from the checkout or by name, with extras that it has."""
    [what] = words
    place, _, extras = what.rstrip("]").partition("[")
    assert place in (".", "qa-accel"), f"pip install {what}: is not this package"
    content = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    [section] = re.findall(r"^\[project\.optional-dependencies\]\n(.*?)^\[", content, re.MULTILINE | re.DOTALL)
    known = re.findall(r"^(\w+) = \[", section, re.MULTILINE)
    assert set(extras.split(",")) - {""} <= set(known), f"pip install {what}: the extras are {known}"


def check_job(words: list[str]) -> Any:
    """The job file decides which flags there are; a pipeline has those of training, `--`, those of prediction."""
    if words[0] == "slurm/pipeline.sh":
        cut = words.index("--")
        check_flags("predict", ["--model_name_or_path", "m", "--output_dir", "o", *words[cut + 1 :]])
        return check_flags("train", words[1:cut])
    place = next((place for place, word in enumerate(words) if word.endswith(".sbatch")), None)
    assert place is not None, f"{words}: sbatch without a job file"
    assert all(re.match(r"--[a-z-]+=\S+$|\$[A-Z_]+$", option) for option in words[1:place]), words[1:place]
    assert (REPOSITORY / words[place]).is_file(), f"there is no {words[place]}"
    name = Path(words[place]).stem
    return check_flags(name if name in ("predict", "prepare", "serve", "sweep") else "train", words[place + 1 :])


def check_launch(words: list[str]) -> None:
    """Flags of `accelerate launch`, up to the script or the module."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    # what a shell fills in: numbers, and an address that may be any word
    words = ["0" if word.startswith("$") else word for word in words]
    parsed, unknown = launch_command_parser().parse_known_args(words)
    assert not unknown, f"accelerate launch knows no {unknown}"
    if parsed.config_file is not None:
        config_file = REPOSITORY / parsed.config_file
        assert config_file.is_file(), f"there is no {parsed.config_file}"
        parsed.config_file = str(config_file)
        try:
            _validate_launch_command(parsed)
        except ValueError as error:  # neither file nor line says how many processes, for one
            raise AssertionError(error) from error


def check_script(script: Path, flags: list[str]) -> Any:
    """A script of scripts/ is a command under its own name; a study has its own arguments."""
    command = re.search(r"^ +main\(\"(\w+)\"\)$", script.read_text(), re.MULTILINE)
    if command is not None:
        return check_flags(command[1], flags)
    arguments = pytest.MonkeyPatch()
    arguments.setattr(sys, "argv", [script.name, *flags])
    arguments.syspath_prepend(script.parent)  # as python does: a script may import its neighbours
    try:
        return runpy.run_path(str(script))["read_arguments"]()
    finally:
        arguments.undo()


def check_flags(command: str, flags: list[str]) -> Any:
    assert command in cli.COMMANDS, f"there is no command {command!r}"
    here = pytest.MonkeyPatch()
    here.chdir(REPOSITORY)  # recipes are named from there
    try:
        return config.parse(importlib.import_module(f"qa_accel.commands.{command}").Config, flags)
    finally:
        here.undo()
