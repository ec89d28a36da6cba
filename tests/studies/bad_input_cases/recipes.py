"""Recipes (`--config`): files that are none, YAML's traps, values of another kind."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_input_cases.case import PAYLOAD, Accepted, Case, Either, Expected, Place, Refused, Run, anything, trains
from bad_input_cases.model_damage import DEEP

FILE = "recipe.yaml"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)
"""A list of 9**9 entries, by references."""


def recipe(name: str, content: bytes | str, expected: Expected | None = None, *, without: tuple[str, ...] = ()) -> Case:
    """`train` with a recipe of these lines; all other settings are flags, but those of `without`."""

    def make(place: Place) -> Run:
        place.path(FILE).write_bytes(content.encode() if isinstance(content, str) else content)
        return place.train("--config", FILE, **dict.fromkeys(without))

    return Case("recipe", name, make, expected or Refused(FILE))


def named(name: str, made: Callable[[Path], Any], given: str, expected: Expected) -> Case:
    """`train` with `--config given`, after `made(folder)`."""

    def make(place: Place) -> Run:
        made(place.folder)
        return place.train("--config", given)

    return Case("recipe", name, make, expected)


def setting(name: str, line: str, expected: Expected | None = None) -> Case:
    """One line of a recipe, whose key no flag sets."""
    key = line.partition(":")[0]
    return recipe(name, line + "\n", expected or Refused(key), without=(key,))


READ = Accepted(trains)


def files() -> list[Case]:
    return [
        named("missing", lambda folder: None, FILE, Refused(FILE)),
        named("a folder", lambda folder: (folder / FILE).mkdir(), FILE, Refused(FILE)),
        named("a FIFO", lambda folder: os.mkfifo(folder / FILE), FILE, Refused(FILE)),
        named("/dev/zero", lambda folder: None, "/dev/zero", Refused("/dev/zero")),
        named("an empty path", lambda folder: None, "", Refused("--config")),
        named("a path of markup, missing", lambda folder: None, "[/]x.yaml", Refused("[/]x.yaml")),
        named("a path of 300 letters", lambda folder: None, "a" * 300, Refused("--config")),
        named("a path that is not UTF-8, missing", lambda folder: None, "x\udcff.yaml", Refused("--config")),
        named("a path that is not UTF-8", lambda folder: (folder / "x\udcff.yaml").write_text("seed: 7\n"), "x\udcff.yaml", READ),
        Case("recipe", "--config at the end", lambda place: place.train("--config"), Refused("--config")),
        recipe("empty", b"", READ),
        recipe("comments alone", "# nothing\n", READ),
        recipe("a byte order mark", b"\xef\xbb\xbfseed: 7\n", READ),
        recipe("line ends of Windows", b"seed: 7\r\nn_best_size: 3\r\n", READ),
        recipe("UTF-16", "seed: 7\n".encode("utf-16")),
        recipe("Latin-1", b"project_name: \xe4\n"),
        recipe("NULs", bytes(99)),
        recipe("random", bytes(range(256))),
        recipe("gzip", gzip.compress(b"seed: 7\n")),
        recipe("JSON", b'{"seed": 7}', READ),
        recipe("cut", "train_file: [a, b"),
        recipe("a tab as indentation", "optim:\n\tlearning_rate: 1\n"),
        recipe("a list", "- seed: 7\n"),
        recipe("a scalar", "seed\n"),
        recipe("null", "null\n", READ),
        recipe("a number", "3\n"),
        recipe("two documents", "seed: 7\n---\nseed: 8\n"),
        recipe("deep", "[" * 100_000),
        recipe("deep closed", DEEP),
        recipe("deep value", b"seed: " + DEEP),
        recipe("deep mappings", "".join(" " * level + f"k{level}:\n" for level in range(1500))),
        recipe("references without end", BOMB + "seed: *i\n"),
        recipe("an unknown reference", "seed: *nowhere\n"),
        recipe("a merge key", "<<: {seed: 7}\n", Either(trains, (FILE,))),
        recipe("a tag of Python", f"seed: !!python/object/apply:os.mkdir [{PAYLOAD}]\n"),
        recipe("an unknown tag", "seed: !magic 7\n"),
    ]  # fmt: skip


def keys() -> list[Case]:
    return [
        recipe("an unknown key", "no_such_setting: 1\n", Refused(FILE, "no_such_setting")),
        recipe("a misspelt key", "learning_rte: 1\n", Refused(FILE, "learning_rte", "learning_rate")),
        recipe("a key with dashes", "learning-rate: 1.0e-3\n", Either(trains, (FILE, "learning-rate"))),
        recipe("a key of a flag", "--learning_rate: 1.0e-3\n", Refused(FILE, "--learning_rate")),
        recipe("a number as key", "7: seed\n", Refused(FILE, "7")),
        recipe("null as key", "null: 7\n", Refused(FILE)),
        recipe("a list as key", "? [seed]\n: 7\n", Refused(FILE)),
        recipe("a mapping as key", "? {seed: 1}\n: 7\n", Refused(FILE)),
        recipe("true as key", "yes: 7\n", Refused(FILE)),
        recipe("an empty key", '"": 7\n', Refused(FILE)),
        recipe("a key of markup", '"[/]": 7\n', Refused(FILE, "[/]")),
        recipe("a key of escape sequences", '"\\e[31mseed": 7\n', Refused(FILE)),
        recipe("a key of a million letters", "a" * 10**6 + ": 7\n", Refused(FILE)),
        recipe("key twice", "seed: 7\nseed: 8\n", Refused(FILE, "seed")),
        recipe("groups of settings", "optim:\n  learning_rate: 1.0e-3\n", Refused(FILE, "optim")),
        recipe("10,000 unknown keys", "".join(f"key_{n}: {n}\n" for n in range(10_000)), Refused(FILE, "key_0")),
    ]


def values() -> list[Case]:
    return [
        setting("rate a list", "learning_rate: [1.0e-3, 2.0e-3]", Refused(FILE, "learning_rate")),
        setting("rate a mapping", "learning_rate: {peak: 1.0e-3}", Refused("learning_rate")),
        setting("rate a word", "learning_rate: high", Refused("learning_rate", "high")),
        setting("rate as YAML reads 1e-3, text", "learning_rate: 1e-3", READ),
        setting("rate null", "learning_rate:", Either(trains, ("learning_rate",))),
        setting("rate nan", "learning_rate: .nan", Refused("learning_rate")),
        setting("rate infinite", "learning_rate: .inf", Refused("learning_rate")),
        setting("rate true", "learning_rate: true", Refused("learning_rate")),
        setting("int of 5,000 digits", "seed: " + "1" * 5000, Refused("seed")),
        setting("an int with underscores", "seed: 1_000", READ),
        setting("an int as text", 'seed: "7"', READ),
        setting("an int in base 8", "seed: 010", READ),
        setting("an int in base 60", "seed: 1:30", Either(trains, ("seed",))),
        setting("an int 7.0", "seed: 7.0", Either(trains, ("seed",))),
        setting("an int 7.5", "seed: 7.5", Refused("seed")),
        setting("an int a date", "seed: 2020-01-01", Refused("seed")),
        setting("an int bytes", "seed: !!binary aGFsbG8=", Refused("seed")),
        setting("an int a set", "seed: !!set {a, b}", Refused("seed")),
        setting("a switch as text", 'gradient_checkpointing: "yes"', READ),
        setting("a switch as 1", "gradient_checkpointing: 1", Refused("gradient_checkpointing")),
        setting("a switch null", "gradient_checkpointing:", Refused("gradient_checkpointing")),
        setting("a switch on", "load_best_model_at_end: on", READ),
        setting("an optional switch null", "version_2_with_negative: null", READ),
        setting("an optional switch maybe", "version_2_with_negative: maybe", Refused("version_2_with_negative")),
        setting("an optional number null", "save_steps: null", READ),
        setting("an optional number None", "save_steps: None", READ),
        setting("a choice unknown", "lr_scheduler_type: magic", Refused("lr_scheduler_type")),
        setting("a choice false, for off", "compile: off", Either(trains, ("compile",))),
        setting("train_file empty list", "train_file: []", Refused("train_file")),
        setting("train_file null", "train_file:", Refused("train_file")),
        setting("train_file a number", "train_file: 3", Refused("3")),
        setting("train_file a mapping", "train_file: {a: b}", Refused("train_file")),
        setting("train_file a reference to itself", "train_file: &a [*a]", Refused("train_file")),
        setting("train_file list of lists", "train_file: [[a]]", Refused("train_file")),
        setting("train_file with NUL", 'train_file: "a\\0b"', Refused("train_file")),
        setting("report_to unknown", "report_to: [nothing]", Refused("report_to", "nothing")),
        setting("report_to empty list", "report_to: []", READ),
        setting("stop_signals unknown", "stop_signals: [SIGNOTHING]", Refused("SIGNOTHING")),
        setting("output_dir null", "output_dir: null", Refused("output_dir")),
        setting("output_dir empty", 'output_dir: ""', Refused("output_dir")),
        setting("output_dir blank", 'output_dir: "  "', Either(anything, ("output_dir",))),
        setting("output_dir a list", "output_dir: [a, b]", Refused("output_dir")),
        setting("output_dir a mapping", "output_dir: {a: b}", Refused("output_dir")),
        setting("output_dir with NUL", 'output_dir: "a\\0b"', Refused("output_dir")),
        setting("model null", "model_name_or_path: null", Refused("model_name_or_path")),
        setting("model empty", 'model_name_or_path: ""', Refused("model_name_or_path")),
        setting("text of another line", 'project_name: "a\\n--seed=8"', READ),
        setting("text with a dash in front", "project_name: -x", READ),
    ]


def cases() -> list[Case]:
    return files() + keys() + values()
