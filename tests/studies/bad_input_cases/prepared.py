"""Files of the cache that are damaged: they are built again, said, and the predictions are those of sound files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from bad_input_cases.case import Accepted, Case, Check, Either, Expected, Place, both, predicts_as_usual

KINDS = ("questions", "windows")
"""What the names of the files begin with."""

Damage = Callable[[Path], Any]


def is_said(place: Place, output: str) -> str | None:
    said = any(word in output.lower() for word in ("damaged", "rebuil", "built again"))
    return None if said else "no word of a damaged file"


REBUILT: Check = both(predicts_as_usual, is_said)


def is_read(place: Place, output: str) -> str | None:
    return "sound files are not read, but built again" if "Tokenizing" in output or "damaged" in output else None


def damaged(name: str, damage: Damage, expected: Expected, kind: str) -> Case:
    """`predict` with a copy of the cache in which `damage` has changed each file of this kind."""

    def make(place: Place):
        cache = place.copy(place.base.cache, "cache")
        found = [path for path in sorted(cache.rglob("*")) if path.is_file() and path.name.startswith(kind)]
        assert found, f"the cache has files of {kind}"
        for path in found:
            damage(path)
        return place.predict(cache_dir=cache)

    return Case("cache", f"{kind or 'all files'} {name}", make, expected)


def changed(change: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def flipped(sixteenth: int, count: int = 8) -> Damage:
    """Other values of so many bytes at a place of the file."""

    def change(content: bytes) -> bytes:
        at = min(len(content) * sixteenth // 16, len(content) - count)
        return content[:at] + bytes(byte ^ 0x5A for byte in content[at : at + count]) + content[at + count :]

    return changed(change)


def filled(byte: bytes, count: int) -> Damage:
    def change(content: bytes) -> bytes:
        at = (len(content) - count) // 2
        return content[:at] + byte * count + content[at + count :]

    return changed(change)


def other_columns(path: Path) -> None:
    table = pa.table({"other": [1, 2, 3]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def other_columns_as_file(path: Path) -> None:
    table = pa.table({"other": [1, 2, 3]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def replaced(make: Callable[[Path], Any]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


DAMAGES: dict[str, Damage] = {
    "empty": changed(lambda content: b""),
    "cut in the middle": changed(lambda content: content[: len(content) // 2]),
    "cut by a byte": changed(lambda content: content[:-1]),
    "cut in the header": changed(lambda content: content[:20]),
    "random": changed(lambda content: bytes(range(256)) * (len(content) // 256)),
    "all zeros": changed(lambda content: bytes(len(content))),
    "text": changed(lambda content: b"[]"),
    "a tail": changed(lambda content: content + bytes(64)),
    "zeros in the middle": filled(b"\0", 200),
    "ones in the middle": filled(b"\xff", 400),
    "of other columns": other_columns,
    "of other columns, as a file": other_columns_as_file,
}
INSTEAD: dict[str, Callable[[Path], Any]] = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
}


def exchanged(kind: str) -> Case:
    """Each file has the content of the other split's: sound, but not what its name says."""

    def make(place: Place):
        cache = place.copy(place.base.cache, "cache")
        found = [path for path in sorted(cache.rglob("*")) if path.is_file() and path.name.startswith(kind)]
        contents = [path.read_bytes() for path in found]
        for path, content in zip(found, contents[1:] + contents[:1]):
            path.write_bytes(content)
        return place.predict(cache_dir=cache)

    return Case("cache", f"{kind} exchanged", make, Accepted(predicts_as_usual))


def cases() -> list[Case]:
    rebuilt, served = Accepted(REBUILT), Either(predicts_as_usual, ("cache",))
    made = []
    for kind in KINDS:
        made += [
            damaged(name, damage, Accepted(predicts_as_usual) if name == "a tail" else rebuilt, kind)
            for name, damage in DAMAGES.items()
        ]
        made += [damaged(f"8 bytes at {place}/16", flipped(place), rebuilt, kind) for place in range(1, 16, 2)]
        made += [damaged(f"one byte at {place}/16", flipped(place, 1), rebuilt, kind) for place in (2, 6, 10, 14)]
        made += [damaged(name, replaced(make), served, kind) for name, make in INSTEAD.items()]
        made += [exchanged(kind)]
    made += [damaged("empty", changed(lambda content: b""), rebuilt, "")]
    made += [damaged("sound", lambda path: None, Accepted(both(predicts_as_usual, is_read)), "")]
    made += [damaged("gone", lambda path: path.unlink(), Accepted(predicts_as_usual), "")]
    return made  # fmt: skip
