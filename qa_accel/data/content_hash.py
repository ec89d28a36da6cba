"""A file -> the hash of its bytes; of a large file it is kept, so that the next start need not read all of it.

What is kept holds while the file system has noted no change of the file: a write changes its ctime, which programs cannot set.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from qa_accel import files
from qa_accel.data.file_rows import PIECE

LARGE = 1 << 26
"""Bytes from which on a hash is kept; fewer are read in a tenth of a second."""
SETTLED = 60
"""Seconds since a file's last change after which its hash is kept: a file system with coarse times, or a server with another clock,
may give the same time to a change that follows soon."""


def content_hash(path: Path, cache_dir: Path) -> str:
    """Hash of a file's bytes, independent of its path and times. Raises ValueError if it cannot be read."""
    try:
        before = _identity(path)
        if before["size"] < LARGE:
            return _read(path)
        name = hashlib.blake2b(os.fsencode(path.resolve()), digest_size=16).hexdigest()
        kept = cache_dir / f"hash-{name}.json"
        if (known := _known(kept)) is not None and known.get("of") == before:
            return known["hash"]
        found = _read(path)
        after = _identity(path)
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error
    changed = max(before["mtime_ns"], before["ctime_ns"]) / 1e9
    if before == after and changed + SETTLED < time.time():
        with contextlib.suppress(
            OSError
        ):  # a cache that others filled, or a full disk: the next start reads the file again
            files.write_json(kept, {"of": before, "hash": found})
    return found


def _read(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _identity(path: Path) -> dict[str, int]:
    """What the file system says of a file; a change of its bytes changes some of it."""
    stat = path.stat()
    names = ("size", "mtime_ns", "ctime_ns", "ino", "dev")
    return {name: getattr(stat, f"st_{name}") for name in names}


def _known(kept: Path) -> dict | None:
    try:
        content = json.loads(kept.read_bytes())
    except (OSError, ValueError):  # none yet, or one that a full disk cut off
        return None
    return content if isinstance(content, dict) and isinstance(content.get("hash"), str) else None
