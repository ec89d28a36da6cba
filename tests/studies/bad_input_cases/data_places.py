"""Where a file is: names, links, pipes, devices, globs, limits; and settings of the data that cannot work."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_input_cases.case import Accepted, Case, Either, Expected, Place, Refused, report_has
from bad_input_cases.data_files import GOOD, ONE, ROW, SECOND, TWO, as_json


def place_case(name: str, made: Callable[[Path], Any], given: Any, expected: Expected, **settings: Any) -> Case:
    """`made(folder)` fills the case's folder; `given` is the value of --train_file."""

    def make(place: Place):
        made(place.folder)
        return place.prepare(train_file=given, **settings)

    return Case("data", name, make, expected)


def good(name: str) -> Callable[[Path], Any]:
    def made(folder: Path) -> None:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(GOOD)

    return made


def nothing(folder: Path) -> None:
    pass


def two(folder: Path) -> None:
    (folder / "a.json").write_bytes(as_json([ROW]))
    (folder / "b.json").write_bytes(as_json([SECOND]))


def bound(folder: Path) -> None:
    before = os.getcwd()
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(folder)  # a socket's path is short
        try:
            made.bind("data.json")
        finally:
            os.chdir(before)


LONG = "a" * 250 + ".json"
NAMES = {
    "a name of markup that closes nothing": "[/]data.json",
    "a name of markup": "[red]data[/red].json",
    "a name of a question mark and a star": "da?ta*.json",
    "a name with a line break": "da\nta.json",
    "a name with escape sequences": "da\x1b[31mta.json",
    "a name that is not UTF-8": "da\udcff\udcfeta.json",
    "a name of 255 letters": LONG,
    "a name with blanks and quotes": ' da\'ta "1" .json',
    "a name of the shell": "$(touch PWNED);`touch PWNED`.json",
    "a name of other scripts": "данные-数据-🚀.json",
    "a name without suffix": "data",
    "a hidden file": ".json",
}


def names() -> list[Case]:
    made = [
        place_case(name, good(file), file, Either(ONE, ("train_file",)) if "UTF-8" in name else Accepted(ONE))
        for name, file in NAMES.items()
    ]
    for name, file in NAMES.items():
        if "/" not in file and "*" not in file:
            word = "train_file" if "UTF-8" in name or "escape" in name or "line break" in name else file[:20]
            made.append(place_case(f"{name}, missing", nothing, file, Refused(word)))
    return made


def kinds() -> list[Case]:
    named = Refused("data.json")
    return [
        place_case("a missing file", nothing, "data.json", named),
        place_case("a folder", lambda f: (f / "data.json").mkdir(), "data.json", named),
        place_case("FIFO", lambda f: os.mkfifo(f / "data.json"), "data.json", named),
        place_case("a link to a FIFO", lambda f: (os.mkfifo(f / "pipe"), (f / "data.json").symlink_to("pipe")), "data.json", named),
        place_case("a socket", lambda f: bound(f), "data.json", named),
        place_case("/dev/zero", nothing, "/dev/zero", Refused("/dev/zero")),
        place_case("/dev/random", nothing, "/dev/random", Refused("/dev/random")),
        place_case("/dev/null", nothing, "/dev/null", Refused("/dev/null")),
        place_case("/dev/stdin", nothing, "/dev/stdin", Refused("/dev/stdin")),
        place_case("/proc/self/mem", nothing, "/proc/self/mem", Refused("/proc/self/mem")),
        place_case("a link to nothing", lambda f: (f / "data.json").symlink_to("nowhere"), "data.json", named),
        place_case("a link to itself", lambda f: (f / "data.json").symlink_to("data.json"), "data.json", named),
        place_case("a link to a file", lambda f: (good("d/x.json")(f), (f / "data.json").symlink_to("d/x.json")), "data.json", Accepted(ONE)),
        place_case("below a file", good("data.json"), "data.json/x.json", Refused("data.json")),
        place_case("a name of 300 letters", nothing, "a" * 300, Refused("train_file")),
        place_case("an empty path", nothing, "", Refused("train_file")),
        place_case("blanks as path", nothing, "  ", Refused("train_file")),
        place_case("an unknown user's home", nothing, "~nobody-here/data.json", Refused("nobody-here")),
        place_case("a web address", nothing, "https://example.org/data.json", Refused("example.org")),
        place_case("a name of the hub", nothing, "squad_v2", Refused("squad_v2")),
        place_case("a glob", two, "*.json", Accepted(TWO)),
        place_case("a glob without match", two, "*.jsonl", Refused("*.jsonl")),
        place_case("a glob of an open bracket", two, "[a.json", Refused("[a.json")),
        place_case("a glob that matches folders alone", lambda f: (f / "x.json").mkdir(), "*.json", Refused("*.json")),
        place_case("a glob that matches a FIFO", lambda f: (two(f), os.mkfifo(f / "c.json")), "*.json", Accepted(TWO)),
        place_case("two files", two, ("a.json", "b.json"), Accepted(TWO)),
        place_case("a file twice", two, ("a.json", "a.json"), Refused("a.json", "'q1'")),
        place_case("the second file missing", two, ("a.json", "c.json"), Refused("c.json")),
        place_case("the second file broken", lambda f: (two(f), (f / "b.json").write_text("[")), ("a.json", "b.json"), Refused("b.json")),
    ]  # fmt: skip


def settings() -> list[Case]:
    def one(name: str, expected: Expected, **given: Any) -> Case:
        return place_case(name, two, ("a.json", "b.json"), expected, **given)

    return [
        one("id_column missing", Refused("a.json", "'key'"), id_column="key"),
        one("id_column empty", Refused("column"), id_column=""),
        one("two columns the same", Refused("column"), context_column="question"),
        one("answers_column the context", Refused("column"), answers_column="context"),
        one("answers_column missing", Refused("a.json", "'gold'"), answers_column="gold"),
        one("id_column of markup", Refused("a.json", "[/]"), id_column="[/]"),
        one("max_train_samples 0", Refused("max_train_samples"), max_train_samples=0),
        one("max_train_samples -1", Refused("max_train_samples"), max_train_samples=-1),
        one("max_train_samples 2**70", Either(TWO, ("max_train_samples",)), max_train_samples=2**70),
        one("max_train_samples 1", Accepted(report_has(questions=1)), max_train_samples=1),
        one("train_num_shards 0", Refused("train_num_shards"), train_num_shards=0),
        one("train_num_shards over the number of questions", Refused("train_num_shards"), train_num_shards=1000),
        one("train_shard not below train_num_shards", Refused("train_shard"), train_shard=2, train_num_shards=2),
        one("train_shard -1", Refused("train_shard"), train_shard=-1),
        one("train_shuffle_seed -1", Refused("train_shuffle_seed"), train_shuffle_seed=-1),
        one("train_shuffle_seed 2**64", Either(TWO, ("train_shuffle_seed",)), train_shuffle_seed=2**64),
        one("train_shuffle_seed of 400 digits", Either(TWO, ("train_shuffle_seed",)), train_shuffle_seed=10**400),
        one("dataset_config_name alone", Refused("dataset_config_name"), dataset_config_name="x"),
        one("preprocessing_num_workers 0", Refused("preprocessing_num_workers"), preprocessing_num_workers=0),
        one("preprocessing_num_workers 100,000", Either(TWO, ("preprocessing_num_workers",)), preprocessing_num_workers=100_000),
        place_case("no train_file", two, None, Refused("train_file")),
        place_case("a validation file without train_file", two, None, Refused("train_file"), validation_file="a.json"),
        place_case("the same file for training and validation", two, "a.json", Accepted(ONE), validation_file="a.json"),
        place_case("a validation file that is missing", two, "a.json", Refused("c.json"), validation_file="c.json"),
    ]  # fmt: skip


def cases() -> list[Case]:
    return names() + kinds() + settings()
