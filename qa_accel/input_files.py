"""A user's file -> its content, or one ValueError that names it. Only regular files are opened: a pipe could wait forever."""

import json
import stat
from pathlib import Path
from typing import Any


def require_regular(path: Path) -> None:
    """Raises ValueError for a pipe, a device or a socket. What is absent or a folder raises where it is opened."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
        raise ValueError(
            f"{path}: is {kinds.get(stat.S_IFMT(mode), 'special')}, not a regular file; save its content as a file and "
            "give that (the shell's <(...) is a pipe too)"
        )


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    require_regular(path)
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON ({error})") from error


def parse_json(text: str) -> Any:
    """`json.loads`, with a ValueError that says what is wrong for whatever it cannot read."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except (RecursionError, ValueError) as error:
        raise ValueError(limit_of(error)) from None


def limit_of(error: RecursionError | ValueError) -> str:
    """Which of Python's limits a valid JSON text exceeds."""
    return "nested too deep" if isinstance(error, RecursionError) else "an integer has thousands of digits"
