"""Pickles that make a folder when they are loaded: harmless, and seen afterwards."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Bomb:
    """An object whose pickle calls this function when it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called


def bomb(mark: Path) -> Bomb:
    """Makes the folder `mark`."""
    return Bomb(os.mkdir, str(mark))


def short_text(text: str) -> bytes:
    """Pushes a text, as protocol 4 does."""
    return pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()


def by_memo(mark: Path) -> bytes:
    """Both names are put into the memo and dropped, so that no text is right before STACK_GLOBAL."""
    names = b"".join(short_text(name) + pickle.MEMOIZE + pickle.POP for name in ("os", "mkdir"))
    call = pickle.BINGET + b"\x00" + pickle.BINGET + b"\x01" + pickle.STACK_GLOBAL
    return pickle.PROTO + b"\x04" + names + call + short_text(str(mark)) + pickle.TUPLE1 + pickle.REDUCE + pickle.STOP


def dotted(mark: Path) -> bytes:
    """An attribute of an attribute of a module whose other names are harmless."""
    name = short_text("torch") + short_text("os.mkdir") if hasattr(torch, "os") else b""
    assert name, "torch has its import of os as an attribute"
    call = name + pickle.STACK_GLOBAL + short_text(str(mark)) + pickle.TUPLE1 + pickle.REDUCE
    return pickle.PROTO + b"\x04" + call + pickle.STOP


PICKLES: dict[str, Callable[[Path], bytes]] = {
    "GLOBAL": lambda mark: pickle.dumps(bomb(mark), 2),
    "STACK_GLOBAL": lambda mark: pickle.dumps(bomb(mark), 4),
    "names out of the memo": by_memo,
    "a dotted name": dotted,
    "eval": lambda mark: pickle.dumps(Bomb(eval, f"__import__('os').mkdir({str(mark)!r})"), 2),
    "in a dictionary": lambda mark: pickle.dumps({"step": 3, "deep": [(1, {"x": bomb(mark)})]}, 2),
    "INST": lambda mark: b"(S" + repr(str(mark)).encode() + b"\nios\nmkdir\n.",
    "OBJ": lambda mark: b"(cos\nmkdir\nS" + repr(str(mark)).encode() + b"\no.",
    "as a persistent id": lambda mark: pickle.dumps(bomb(mark), 2)[:-1] + pickle.BINPERSID + pickle.STOP,
}
"""Ways to name and call os.mkdir."""


def as_zip(content: bytes) -> bytes:
    """The pickle in torch's format."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, record in (("data.pkl", content), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"archive/{name}", record)
    return stream.getvalue()


def as_former_format(content: bytes, place: int = 3) -> bytes:
    """The pickle in torch's former format, which is several pickles in a row: number `place` of them."""
    stream = io.BytesIO()
    torch.save({}, stream, _use_new_zipfile_serialization=False)
    stream.seek(0)
    parts = []
    for _ in range(5):
        begin = stream.tell()
        pickle.load(stream)
        parts.append(stream.getvalue()[begin : stream.tell()])
    return b"".join([*parts[:place], content, *parts[place + 1 :]])
