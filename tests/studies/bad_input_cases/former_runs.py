"""Output folders of former runs, their metrics.jsonl, disks that fill up, and cache folders that cannot be."""

import os
from typing import Any

from bad_input_cases.case import Accepted, Case, Either, Expected, Place, Refused, Run, ends_as_usual, trains
from bad_input_cases.outputs import Fill, a_file, nothing, start, written


def runs() -> list[Case]:
    """Folders of training runs."""

    def case(name: str, source: str, command: str, expected: Expected, *words: str) -> Case:
        def make(place: Place) -> Run:
            place.copy(getattr(place.base, source), "output")
            run = start(place, command)
            return Run(run.command, [*run.words, *words])

        return Case("output", f"{name} ({command})", make, expected)

    return [
        case("a finished run", "whole", "train", Refused("output", "--overwrite_output_dir")),
        case("a finished run", "whole", "predict", Refused("output")),
        case("an interrupted run", "interrupted", "predict", Refused("output")),
        case(
            "an interrupted run of other settings",
            "interrupted",
            "train",
            Refused("max_train_steps", "--overwrite_output_dir"),
        ),
        case("a finished run to be overwritten", "whole", "train", Accepted(trains), "--overwrite_output_dir"),
        case(
            "an interrupted run to be overwritten", "interrupted", "train", Accepted(trains), "--overwrite_output_dir"
        ),
        case("answers of before", "predictions", "predict", Accepted(written("output", "config.yaml"))),
        case("answers of before", "predictions", "train", Either(trains, ("output",))),
    ]


# --- metrics.jsonl, which only informs, must never stop a run


def metrics() -> list[Case]:
    whole_line = b'{"step": 1, "loss": 3.0}\n'
    contents = {
        "garbage": b"garbage\n",
        "empty": b"",
        "NULs": bytes(4096),
        "no step": b'{"loss": 3.0}\n',
        "a list": b"[1, 2]\n",
        "a number": b"3\n",
        "step text": b'{"step": "two"}\n',
        "step null": b'{"step": null}\n',
        "deep": b"[" * 100_000 + b"\n",
        "not UTF-8": b'{"step": 1, "note": "\xff"}\n',
        "half a line": whole_line + b'{"step": 2, "lo',
        "an integer of 5,000 digits": b'{"step": ' + b"1" * 5000 + b"}\n",
        "a line of a million letters": b'{"step": 1, "note": "' + b"a" * 10**6 + b'"}\n',
        "a sound line, then NULs": whole_line + bytes(4096),
    }

    def case(name: str, fill: Fill) -> Case:
        def make(place: Place) -> Run:
            place.copy(place.base.interrupted, "output")
            (place.output / "metrics.jsonl").unlink()
            fill(place.output)
            return place.resume()

        return Case("output", f"metrics.jsonl: {name} (train)", make, Accepted(ends_as_usual))

    made = [
        case(name, lambda folder, c=content: (folder / "metrics.jsonl").write_bytes(c))
        for name, content in contents.items()
    ]
    made += [case("missing", nothing)]
    return made


# --- disks that fill up


def full() -> list[Case]:
    """A file that reaches the limit fails as one on a full disk does, with another reason."""

    def case(name: str, command: str, kilobytes: int, *said: str, **settings: Any) -> Case:
        def make(place: Place) -> Run:
            own = {"cache_dir": place.cache} if command == "prepare" else {}
            run = start(place, command, **own | settings)
            return Run(run.command, run.words, file_size=kilobytes * 1000)

        return Case("output", f"{name} ({command})", make, Refused("cannot be written", *said))

    return [
        case("no room for the weights", "train", 60, "output"),
        case("no room for half of the weights", "train", 30, "output"),
        case("no room for a checkpoint", "train", 150, "output", save_steps=1),
        case("no room for the n-best list", "predict", 9, "output"),
        case("no room for the questions", "prepare", 4, "cache"),
        case("no room for the windows", "prepare", 16, "cache"),
    ]


def caches() -> list[Case]:
    """--cache_dir"""

    def case(name: str, fill: Fill, given: str, expected: Expected, command: str = "prepare") -> Case:
        def make(place: Place) -> Run:
            fill(place.folder)
            run = start(place, command, cache_dir=None)
            return Run(run.command, [*run.words, f"--cache_dir={given}"])

        return Case("output", f"cache_dir {name} ({command})", make, expected)

    named, done = Refused("cache_dir"), Accepted(written("output", "data_report.json"))
    return [
        case("a file", a_file, "file", named),
        case("a file", a_file, "file", named, "train"),
        case("below a file", a_file, "file/below", named),
        case("a FIFO", lambda folder: os.mkfifo(folder / "pipe"), "pipe", named),
        case("a link to nothing", lambda folder: (folder / "link").symlink_to("nowhere"), "link", named),
        case("read-only", nothing, "/proc/nowhere/cache", named),
        case("empty", nothing, "", named),
        case("a name of 300 letters", nothing, "a" * 300, named),
        case("markup", nothing, "[/]", done),
        case("not UTF-8", nothing, "ca\udcffche", Either(written("output", "data_report.json"), ("cache_dir",))),
        case("a line break", nothing, "ca\nche", done),
    ]


def cases() -> list[Case]:
    return runs() + metrics() + full() + caches()
