"""Where torch's compiler keeps the kernels of a GPU."""

import os
import stat
from pathlib import Path

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def keep() -> None:
    """In the cache of this user, so that the next run finds them: torch takes a temporary folder, which a job of a cluster often has
    for itself. Call it before the first compilation.

    torch's choice stays where the variable is set, and where the folder cannot be written or others could put code into it. Not
    for a CPU: code for one may not run on another, and a home is often that of several machines.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = cache / "qa_accel" / "compiled"
    if VARIABLE in os.environ:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if found.st_uid == os.getuid() and not others_write and os.access(folder, os.W_OK):
        os.environ[VARIABLE] = str(folder)
