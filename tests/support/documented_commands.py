"""A command as documentation shows it -> AssertionError if it could not be typed like that: a script, file, flag or make
target that does not exist. Nothing is run."""

import importlib
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from qa_accel import config

REPOSITORY = Path(__file__).resolve().parents[2]


def of_markdown(path: Path) -> list[str]:
    """The commands in a file's ```bash blocks: continued lines joined, comments left out."""
    blocks = re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def check(command: str) -> Any:
    """The settings that the script would get, where it is a script with a config."""
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), f"{command}: make has {targets}"
        return None
    if words[0] == "source":
        assert (REPOSITORY / words[1]).is_file(), command
        return None
    if words[0] in ("sbatch", "slurm/pipeline.sh"):
        return check_job(words)
    place = next((place for place, word in enumerate(words) if word.endswith(".py")), None)
    assert place is not None, f"{command}: expected make or a script"
    script, flags = REPOSITORY / words[place], words[place + 1 :]
    assert script.is_file(), f"{command}: there is no {words[place]}"
    if words[:2] == ["accelerate", "launch"]:
        check_launch(words[2 : place + 1])
    else:
        assert words[:place] == ["python"], command
    return check_flags(script, flags)


def check_job(words: list[str]) -> Any:
    """The job file's script decides which flags there are; a pipeline has those of training, `--`, those of prediction."""
    if words[0] == "slurm/pipeline.sh":
        cut = words.index("--")
        check_flags(
            REPOSITORY / "scripts" / "predict.py", ["--model_name_or_path", "m", "--output_dir", "o", *words[cut + 1 :]]
        )
        return check_flags(REPOSITORY / "scripts" / "train.py", words[1:cut])
    place = next((place for place, word in enumerate(words) if word.endswith(".sbatch")), None)
    assert place is not None, f"{words}: sbatch without a job file"
    assert all(re.match(r"--[a-z-]+=\S+$|\$[A-Z_]+$", option) for option in words[1:place]), words[1:place]
    assert (REPOSITORY / words[place]).is_file(), f"there is no {words[place]}"
    script = {"predict": "predict.py", "prepare": "prepare.py"}.get(Path(words[place]).stem, "train.py")
    return check_flags(REPOSITORY / "scripts" / script, words[place + 1 :])


def check_launch(words: list[str]) -> None:
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


def check_flags(script: Path, flags: list[str]) -> Any:
    used = re.search(r"config\.parse\((\w+)\.(\w+)", script.read_text())
    if used is None:
        arguments = pytest.MonkeyPatch()
        arguments.setattr(sys, "argv", [script.name, *flags])
        try:
            return runpy.run_path(str(script))["read_arguments"]()
        finally:
            arguments.undo()
    here = pytest.MonkeyPatch()
    here.chdir(REPOSITORY)
    try:
        imported = re.search(rf"^from ([\w.]+) import (\w+) as {used[1]}\b", script.read_text(), re.MULTILINE)
        assert imported is not None, f"{script.name} imports no {used[1]}"
        module = importlib.import_module(f"{imported[1]}.{imported[2]}")
        return config.parse(getattr(module, used[2]), flags)
    finally:
        here.undo()
