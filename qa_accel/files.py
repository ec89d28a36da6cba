"""Content -> a file that appears whole or not at all."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Errors of the disk in this block become an OSError that names the file or folder and the way out."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, OSError):
            reason = error.strerror
        else:  # safetensors and torch's writer have errors of their own for a disk that takes no more
            of_the_disk = isinstance(error, SafetensorError) or "inline_container" in str(error)
            reason = f"the disk seems to be full ({error})" if of_the_disk else None
        if reason is None:  # named already, or no matter of the disk
            raise
        message = f"{path} cannot be written: {reason}. Make room or mend it, then start the same command again"
        raise OSError(message) from error


def write_text(path: Path, text: str) -> None:
    """Replace `path` by a file with this text. If the disk is full, the former file stays and OSError says so."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with writing(path), open(partial, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # some file systems report a full disk only now
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Delete what killed processes were just writing: whatever matches and has not changed for a day."""
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # another process may be at the same
            newest = max(entry.stat().st_mtime for entry in (path, *path.rglob("*")))
            if time.time() - newest > 24 * 3600:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_json(path: Path, content: Any) -> None:
    """`content` as indented UTF-8 JSON, the same bytes for the same content. Raises ValueError on nan and infinity."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
