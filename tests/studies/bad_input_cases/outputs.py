"""Where results go: folders that cannot be, that are taken, whose files are something else; disks that fill up."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_input_cases.case import Accepted, Case, Check, Either, Expected, Place, Refused, Run, trains

Fill = Callable[[Path], Any]
LAST = {"train": "all_results.json", "predict": "config.yaml", "prepare": "data_report.json"}
"""What each command writes last."""


def start(place: Place, command: str, **settings: Any) -> Run:
    data = {"train_file": place.base.toy.train} if command == "prepare" else {}
    return getattr(place, command)(**data | settings)


def output(name: str, fill: Fill, given: str, expected: Expected, *commands: str, **settings: Any) -> list[Case]:
    """Each command with `--output_dir=given`, after `fill(folder)`."""

    def case(command: str) -> Case:
        def make(place: Place) -> Run:
            fill(place.folder)
            run = start(place, command, output_dir=None, **settings)
            return Run(run.command, [*run.words, f"--output_dir={given}"])

        found = Accepted(written(given, LAST[command])) if expected is WRITTEN else expected
        return Case("output", f"{name} ({command})", make, found)

    return [case(command) for command in commands or LAST]


def written(folder: str, name: str) -> Check:
    def check(place: Place, output: str) -> str | None:
        path = os.path.join(os.fsencode(place.folder), os.fsencode(folder), os.fsencode(name))
        return None if os.path.isfile(path) else f"no {name} in {folder!r}"

    return check


WRITTEN: Any = object()
"""Expected: the command's last file is in the folder."""


def nothing(folder: Path) -> None:
    pass


def a_file(folder: Path) -> None:
    (folder / "file").write_text("in the way")


def linked(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")


def names() -> list[Case]:
    named, made = Refused("output_dir"), []
    made += output("a file", a_file, "file", named)
    made += output("below a file", a_file, "file/below", named)
    made += output(
        "a link to nothing", lambda folder: (folder / "link").symlink_to("nowhere"), "link", named, "train", "predict"
    )
    made += output("a link to itself", lambda folder: (folder / "link").symlink_to("link"), "link", named, "train")
    made += output("a link to a folder", linked, "link", WRITTEN, "train", "predict")
    made += output("a FIFO", lambda folder: os.mkfifo(folder / "pipe"), "pipe", named, "train", "predict")
    made += output("/dev/null", nothing, "/dev/null", named)
    made += output("read-only disk", nothing, "/proc/nowhere/output", named)
    made += output("a name of 300 letters", nothing, "a" * 300, named)
    made += output("empty", nothing, "", named)
    made += output("blank", nothing, "  ", Either(lambda place, output: None, ("output_dir",)))
    made += output("markup that closes nothing", nothing, "runs/[/]", WRITTEN)
    made += output("markup of a colour", nothing, "x[/red]", WRITTEN)
    made += output(
        "not UTF-8",
        nothing,
        "out\udcff",
        Either(written("out\udcff", "config.yaml"), ("output_dir",)),
        "train",
        "predict",
    )
    made += output(
        "not UTF-8", nothing, "out\udcff", Either(written("out\udcff", "data_report.json"), ("output_dir",)), "prepare"
    )
    made += output("a line break", nothing, "out\nput", WRITTEN)
    made += output("escape sequences", nothing, "out\x1b[31mput", WRITTEN, "train", "predict")
    made += output(
        "a dash in front", nothing, "-rf", Either(written("-rf", "config.yaml"), ("output_dir",)), "train", "predict"
    )
    made += output("blanks and quotes", nothing, " o'u\"t ", WRITTEN, "train", "predict")
    made += output("a name of the shell", nothing, "$(mkdir PWNED);`mkdir PWNED`", WRITTEN, "train", "predict")
    made += output("several levels, none there", nothing, "a/b/c", WRITTEN, "train", "predict")
    return made


# --- folders that hold something already


def holding(name: str, fill: Fill, expected: Expected, command: str = "train", **settings: Any) -> Case:
    """`fill(output folder)` before the command starts."""

    def make(place: Place) -> Run:
        place.output.mkdir()
        fill(place.output)
        return start(place, command, **settings)

    return Case("output", f"{name} ({command})", make, expected)


def file_at(name: str) -> Fill:
    return lambda folder: (folder / name).write_text("mine")


def folder_at(name: str) -> Fill:
    return lambda folder: (folder / name).mkdir()


def fifo_at(name: str) -> Fill:
    return lambda folder: os.mkfifo(folder / name)


def link_at(name: str) -> Fill:
    """A link to a file of the user outside of the folder."""

    def fill(folder: Path) -> None:
        (folder.parent / "precious").write_text("precious")
        (folder / name).symlink_to("../precious")

    return fill


def untouched(*checks: Check) -> Check:
    """The file that a link led to still has its content."""

    def check(place: Place, output: str) -> str | None:
        if place.path("precious").read_text() != "precious":
            return "a link was followed, and the file behind it is overwritten"
        return next((wrong for one in checks if (wrong := one(place, output)) is not None), None)

    return check


def taken() -> list[Case]:
    def foreign(place: Place, output: str) -> str | None:
        same = all((place.output / name).read_text() == "mine" for name in ("notes.txt", "train.json"))
        return trains(place, output) if same else "files of the user are changed"

    def two_files(folder: Path) -> None:
        file_at("notes.txt")(folder)
        file_at("train.json")(folder)

    def predictions(place: Place, output: str) -> str | None:
        return None if (place.output / "config.yaml").is_file() else "no config.yaml"

    either, named = Either(trains, ("output",)), Either(predictions, ("output",))
    made = [holding("files of the user", two_files, Accepted(foreign))]
    made += [
        holding(f"{name} a file", file_at(name), either)
        for name in ("best", "ranks", "checkpoint-2", "STOP", "stopped.json")
    ]
    made += [
        holding(f"{name} a folder", folder_at(name), either)
        for name in (".lock", "config.yaml", "README.md", "metrics.jsonl")
    ]
    made += [
        holding(f"{name} a folder", folder_at(name), either)
        for name in ("all_results.json", "model.safetensors", "data_report.json")
    ]
    made += [
        holding(f"{name} a FIFO", fifo_at(name), either) for name in (".lock", "metrics.jsonl", "STOP", "config.yaml")
    ]
    links = (
        ".lock",
        "metrics.jsonl",
        "config.yaml",
        "README.md",
        "model.safetensors",
        ".writable",
        ".config.yaml.partial",
    )
    made += [
        holding(f"{name} a link to a file of the user", link_at(name), Either(untouched(trains), ("output",)))
        for name in links
    ]
    made += [
        holding(f"{name} a folder", folder_at(name), named, "predict") for name in ("predictions.json", "config.yaml")
    ]
    made += [holding("predictions.json a FIFO", fifo_at("predictions.json"), named, "predict")]
    made += [
        holding(
            "predictions.json a link to a file of the user",
            link_at("predictions.json"),
            Either(untouched(predictions), ("output",)),
            "predict",
        )
    ]
    made += [holding("data_report.json a folder", folder_at("data_report.json"), Refused("output"), "prepare")]
    return made  # fmt: skip


def cases() -> list[Case]:
    return names() + taken()
