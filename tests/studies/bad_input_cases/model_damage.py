"""A copy of the toy's model that is changed, and the two commands that load it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_input_cases.case import (
    PAYLOAD,
    Case,
    Expected,
    Place,
    Refused,
)

FOLDER = "broken-model"
"""Of a model in a case's folder: a refusal must name it."""
NAMED = Refused(FOLDER)
Damage = Callable[[Path], Any]


def model_case(
    name: str,
    damage: Damage,
    expected: Expected = NAMED,
    *,
    train: Expected | None = None,
    also_train: bool = False,
    given: str = FOLDER,
    **settings: Any,
) -> list[Case]:
    """`predict` with a copy of the toy's model that `damage` has changed; `train` too where it is asked for."""

    def copied(place: Place) -> None:
        damage(place.copy(place.base.toy.model, FOLDER))

    def predict(place: Place):
        copied(place)
        return place.predict(model_name_or_path=given, **settings)

    def trained(place: Place):
        copied(place)
        return place.train(model_name_or_path=given, **settings)

    made = [Case("model", f"{name} (predict)", predict, expected)]
    if also_train or train:
        made.append(Case("model", f"{name} (train)", trained, train or expected))
    return made


def config(**changes: Any) -> Damage:
    return lambda folder: edit(folder / "config.json", **changes)


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


def content(name: str, written: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(written)


def gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def replaced(name: str, make: Callable[[Path], Any]) -> Damage:
    """Something else under the file's name."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


DEEP = b"[" * 100_000 + b"]" * 100_000


class Payload:
    """Unpickled, it writes a file into the working folder, which is the case's."""

    def __reduce__(self):
        return (os.mkdir, (PAYLOAD,))
