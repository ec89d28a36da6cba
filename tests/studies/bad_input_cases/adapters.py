"""Folders of low-rank adapters, which name a base model and hold weights of their own."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bad_input_cases.case import PAYLOAD, Accepted, Case, Either, Expected, Place, Refused, anything, trains
from bad_input_cases.model_damage import DEEP, Payload

FOLDER = "broken-adapter"
NAMED = Refused(FOLDER)
SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapter(name: str, damage: Callable[[Path], Any], expected: Expected = NAMED) -> Case:
    """`predict` with a copy of a trained adapter that `damage` has changed."""

    def make(place: Place):
        damage(place.copy(place.base.adapter, FOLDER))
        return place.predict(model_name_or_path=FOLDER)

    return Case("model", f"adapter {name} (predict)", make, expected)


def settings(**changes: Any) -> Callable[[Path], Any]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / SETTINGS).read_text()) | changes
        (folder / SETTINGS).write_text(json.dumps(content))

    return damage


def written(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"weight": Payload()}))


def imports(folder: Path) -> None:
    """peft imports the module that the mapping names."""
    (folder.parent / "adapter_code.py").write_text(f"import os\nos.mkdir({PAYLOAD!r})\nclass Code:\n    pass\n")
    settings(task_type=None, auto_mapping={"base_model_class": "Code", "parent_library": "adapter_code"})(folder)


def reshaped(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    name = next(name for name in weights if "lora_A" in name)
    save_file(weights | {name: torch.zeros(7, 9)}, folder / WEIGHTS, {"format": "pt"})


def of_nothing(folder: Path) -> None:
    save_file({"other.weight": torch.zeros(2)}, folder / WEIGHTS, {"format": "pt"})


def cut(folder: Path) -> None:
    written(WEIGHTS, (folder / WEIGHTS).read_bytes()[:-99])(folder)


def its_own_base(folder: Path) -> None:
    settings(base_model_name_or_path=str(folder))(folder)


def without_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(b"")


def cases() -> list[Case]:
    base = Refused(FOLDER, "base_model_name_or_path")

    def sound(place: Place, output: str) -> str | None:
        return None if (place.output / "predictions.json").is_file() else "no predictions"

    def train(place: Place):
        place.copy(place.base.adapter, FOLDER)
        return place.train(model_name_or_path=FOLDER)

    made = [
        adapter("sound", lambda folder: None, Accepted(sound)),
        Case("model", "adapter sound (train)", train, Either(trains, (FOLDER,))),
        adapter("base a number", settings(base_model_name_or_path=3), base),
        adapter("base null", settings(base_model_name_or_path=None), base),
        adapter("base empty", settings(base_model_name_or_path=""), base),
        adapter("base missing", settings(base_model_name_or_path="/nowhere/at-all"), base),
        adapter("base not on the hub", settings(base_model_name_or_path="nobody/no-model"), Refused("nobody/no-model")),
        adapter("base a list", settings(base_model_name_or_path=["x"]), base),
        adapter("base of markup", settings(base_model_name_or_path="/[/]"), base),
        adapter("base itself", its_own_base),
        adapter("config broken", written(SETTINGS, b'{"r": 4')),
        adapter("config a list", written(SETTINGS, b"[]")),
        adapter("config null", written(SETTINGS, b"null")),
        adapter("config empty", written(SETTINGS, b"")),
        adapter("config an empty object", written(SETTINGS, b"{}")),
        adapter("config deep", written(SETTINGS, DEEP)),
        adapter("config not UTF-8", written(SETTINGS, b'{"r": "\xff"}')),
        adapter("without weights", lambda folder: (folder / WEIGHTS).unlink()),
        adapter("weights empty", written(WEIGHTS, b"")),
        adapter("weights cut", cut),
        adapter("weights random", written(WEIGHTS, bytes(range(256)) * 9)),
        adapter("weights of another shape", reshaped),
        adapter("weights of other names", of_nothing),
        adapter("pickle bomb", pickled),
        adapter("imports a module", imports, Either(anything, (FOLDER,))),
        adapter("unknown type", settings(peft_type="MAGIC")),
        adapter("type null", settings(peft_type=None)),
        adapter("unknown task", settings(task_type="MAGIC"), Either(anything, (FOLDER,))),
        adapter("rank text", settings(r="four")),
        adapter("rank 0", settings(r=0)),
        adapter("rank another", settings(r=9)),
        adapter("modules a number", settings(target_modules=3)),
        adapter("modules that are not there", settings(target_modules=["nowhere"])),
        adapter("modules to save null", settings(modules_to_save=None), Either(anything, (FOLDER,))),
        adapter("modules to save a number", settings(modules_to_save=3)),
        adapter("only weights in the folder", without_folder),
    ]
    return made
