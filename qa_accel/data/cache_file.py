"""Cache files that carry the hash of their content, so that damage is seen before anything is computed from it.

The last TRAILER bytes of a file are a mark and the BLAKE2b hash of its name and of all bytes before them. The hash finds
damage by disks, copies and accidents; it is no protection against somebody who may write in the cache folder.
"""

import hashlib
import logging
from pathlib import Path

import pyarrow as pa

logger = logging.getLogger(__name__)

MARK = b"qa-accel"
DIGEST = 24  # bytes
TRAILER = len(MARK) + DIGEST
PIECE = 2**22  # bytes per read


def seal(path: Path, name: str) -> None:
    """Append the trailer to a file whose content is complete and that is to have this name."""
    trailer = MARK + _hash(path, path.stat().st_size, name)
    with path.open("ab") as file:
        file.write(trailer)


def is_usable(path: Path, *, check: bool) -> bool:
    """Whether the file is there; with `check` also whether it is whole: a damaged one is deleted, with a warning."""
    if not path.is_file():
        return False
    damage = damage_of(path) if check else None
    if damage is not None:
        logger.warning("%s is damaged (%s): it is computed again", path, damage)
        path.unlink(missing_ok=True)
    return damage is None


def damage_of(path: Path) -> str | None:
    """What is wrong with a sealed file, or None."""
    try:
        size = path.stat().st_size - TRAILER
        if size < 0:
            return "it is cut off"
        with path.open("rb") as file:
            file.seek(size)
            trailer = file.read()
        if not trailer.startswith(MARK):
            return "it is cut off, or another program wrote it"
        if trailer.removeprefix(MARK) != _hash(path, size, path.name):
            return "its hash differs from the one that it was written with"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return None


def content(path: Path) -> pa.Buffer:
    """All but the trailer, mapped: no byte is read before it is used."""
    mapped = pa.memory_map(str(path))
    return mapped.read_buffer(max(0, mapped.size() - TRAILER))


def _hash(path: Path, size: int, name: str) -> bytes:
    """Hash of the name, which says what the content was made from, and of the first `size` bytes."""
    digest = hashlib.blake2b(name.encode(), digest_size=DIGEST)
    with path.open("rb") as file:
        while size > 0 and (piece := file.read(min(PIECE, size))):
            digest.update(piece)
            size -= len(piece)
    return digest.digest()
