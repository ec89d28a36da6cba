"""Cache files that carry hashes of their content, so that damage is seen before anything is computed from it.

The last TRAILER bytes of a file are a mark and two BLAKE2b hashes: of its name and all bytes before them, and of its name and
SAMPLED pieces of these bytes, evenly spaced from the first to the last. A start reads the pieces alone: the windows of five
million questions are 12 GB, which it would read for a minute. The hashes find damage by disks, copies and accidents; they are
no protection against somebody who may write in the cache folder.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

logger = logging.getLogger(__name__)

MARK = b"qa-accel"
DIGEST = 24  # bytes
TRAILER = len(MARK) + 2 * DIGEST
PIECE = 2**22  # bytes per read
SAMPLED = 64  # pieces; files of up to so many are read whole


def seal(path: Path, name: str) -> None:
    """Append the trailer to a file whose content is complete and that is to have this name."""
    size = path.stat().st_size
    trailer = MARK + _hash(path, size, name, range(0, size, PIECE)) + _hash(path, size, name, _samples(size))
    with path.open("ab") as file:
        file.write(trailer)


def is_usable(path: Path, *, check: bool) -> bool:
    """Whether the file is there; with `check` also whether its samples are whole: a damaged one is deleted, with a warning."""
    if not path.is_file():
        return False
    damage = damage_of(path, whole=False) if check else None
    if damage is not None:
        logger.warning("%s is damaged (%s): it is computed again", path, damage)
        path.unlink(missing_ok=True)
    return damage is None


def damage_of(path: Path, *, whole: bool = True) -> str | None:
    """What is wrong with a sealed file, or None. Not `whole`: of a large one only its length and its samples are looked at."""
    try:
        size = path.stat().st_size - TRAILER
        if size < 0:
            return "it is cut off"
        with path.open("rb") as file:
            file.seek(size)
            trailer = file.read()
        if not trailer.startswith(MARK):
            return "it is cut off, or another program or version wrote it"
        stated = trailer.removeprefix(MARK)[:DIGEST] if whole else trailer.removeprefix(MARK)[DIGEST:]
        if stated != _hash(path, size, path.name, range(0, size, PIECE) if whole else _samples(size)):
            return "its hash differs from the one that it was written with"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return None


def content(path: Path) -> pa.Buffer:
    """All but the trailer, mapped: no byte is read before it is used."""
    mapped = pa.memory_map(str(path))
    return mapped.read_buffer(max(0, mapped.size() - TRAILER))


def _samples(size: int) -> Sequence[int]:
    """Where the pieces begin that a start reads."""
    if size <= SAMPLED * PIECE:
        return range(0, size, PIECE)
    return [place * (size - PIECE) // (SAMPLED - 1) for place in range(SAMPLED)]


def _hash(path: Path, size: int, name: str, places: Iterable[int]) -> bytes:
    """Hash of the name, which says what the content was made from, and of the pieces of the first `size` bytes that begin at
    these places."""
    digest = hashlib.blake2b(name.encode(), digest_size=DIGEST)
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            digest.update(file.read(min(PIECE, size - place)))
    return digest.digest()
