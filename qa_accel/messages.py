"""Values out of a user's files -> text for a message: escaped, on one line, and short however long the value is."""

import reprlib
from collections.abc import Collection
from itertools import islice
from typing import Any

LENGTH = 40  # characters of a value
LINE = 100  # characters of a text without quotes
PATH = 1000  # characters of a path: what is longer is none
NAMES = 10  # names in a list

_containers = reprlib.Repr()
_containers.maxstring = _containers.maxother = LENGTH


def shown(value: Any) -> str:
    """A value and its type."""
    return "null or missing" if value is None else f"{quoted(value)} ({type(value).__name__})"


def quoted(value: Any) -> str:
    """The beginning of a value as text, in quotes."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, list | tuple | dict | set):
        text = _containers.repr(value)  # `repr` would write all of it first, and fail if it is nested too deep
    else:
        try:
            text = str(value)
        except ValueError:  # Python's limit
            return "an integer of thousands of digits"
    return f"{text[:LENGTH]!r}" + ("..." if len(text) > LENGTH else "")


def short(text: str, most: int = LINE) -> str:
    """A text without quotes: no control characters, and not too long."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= most else f"{text[:most]}..."


def listed(names: Collection[Any]) -> str:
    """The first names and how many more there are; in quotes if they could not be read otherwise."""
    first = (str(name) if _is_plain(name) else quoted(name) for name in islice(names, NAMES))
    more = len(names) - NAMES
    return (", ".join(first) or "none") + (f" and {more:,} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    """A library's message without its further lines; its type if it has no message."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else f"{line[:200]}..."


def _is_plain(name: Any) -> bool:
    return not isinstance(name, str) or (0 < len(name) <= LENGTH and name.isprintable() and name == name.strip())
