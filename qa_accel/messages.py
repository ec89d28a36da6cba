"""Values out of a user's files -> text for a message: escaped, on one line, and short however long the value is."""

import reprlib
from collections.abc import Collection
from itertools import islice
from typing import Any

from qa_accel.terminal import visible

LENGTH = 40  # characters of a value
LINE = 100  # characters of a text without quotes
REASON = 400  # characters of a library's message
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
    """A text that is not too long, in quotes only if it has characters that cannot be seen."""
    plain = visible(text)
    return _cut(text if plain == text else f"'{plain}'", most)


def one_line(text: str, most: int = REASON) -> str:
    """A library's message, whose lines and columns are joined by blanks."""
    return _cut(visible(" ".join(text[: 10 * most].split())), most)


def listed(names: Collection[Any], most: int = NAMES, length: int = LENGTH) -> str:
    """The first names and how many more there are; in quotes if they are longer, or could not be read otherwise."""
    first = (str(name) if _is_plain(name, length) else quoted(name) for name in islice(names, most))
    more = len(names) - most
    return (", ".join(first) or "none") + (f" and {more:,} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    """A library's message without its further lines; its type if it has no message."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return _cut(line, 2 * LINE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _is_plain(name: Any, length: int) -> bool:
    return not isinstance(name, str) or (0 < len(name) <= length and name.isprintable() and name == name.strip())
