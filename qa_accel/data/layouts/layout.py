"""What a layout of a JSON file is, and what it reads with: the file, the place within it, and what it leaves out.

An element is one value of the file's list, or one line. A layout turns its elements into rows, each with a note on its
place, and never changes a text.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from qa_accel.messages import listed, shown

logger = logging.getLogger(__name__)

LISTED = 3
"""Ids of what is left out, in a warning."""
NotedRow = tuple[str, dict[str, Any]]
"""Where a row is in the file, and its columns."""


@dataclass
class File:
    """A file that is read, and what its layouts leave out."""

    path: Path
    split: str | None = None
    """train, validation or test; None where nobody asked for one."""
    first: "Layout | None" = None
    """Layout of the first element; None for rows."""
    _left_out: dict[str, tuple[list[str], int]] = field(default_factory=dict)

    def place(self, layout: str, where: str) -> "Place":
        return Place(self.path, layout, where)

    def leave_out(self, reason: str, name: str) -> None:
        """Count what is not read, and keep the first names; `reason` continues "are left out: "."""
        names, count = self._left_out.setdefault(reason, ([], 0))
        if len(names) < LISTED:
            names.append(name)
        self._left_out[reason] = names, count + 1

    def warn(self) -> None:
        """Say what was left out, a line per reason."""
        for reason, (names, count) in self._left_out.items():
            logger.warning("%s: %d left out: %s (first: %s)", self.path, count, reason, listed(names))
        self._left_out.clear()


class Layout(NamedTuple):
    name: str
    """Continues "the nearest layout that is read is "."""
    keys: tuple[str, ...]
    """Keys of an element, for messages."""
    is_own: Callable[[dict[str, Any]], bool]
    rows: Callable[[dict[str, Any], int, File], Iterator[NotedRow]]
    """Element, its place in the file from 1, file -> rows. Raises ValueError that names file and place."""
    version: int = 0
    """Increase it when the same bytes give other questions; part of the cache key of files of this layout."""
    by_split: bool = False
    """Whether one file holds several splits, so that the rows depend on the split that is read."""


@dataclass(frozen=True)
class Place:
    """A place within a file, and the checks of what is there: each gives the value or raises ValueError."""

    path: Path
    layout: str
    where: str

    def inside(self, where: str) -> "Place":
        return Place(self.path, self.layout, f"{self.where}, {where}")

    def error(self, message: str) -> ValueError:
        return ValueError(f"{self.path}: {self.where}: {message}")

    def list(self, holder: dict[str, Any], key: str) -> list[Any]:
        return self._of_kind(holder, key, list, "a list")

    def text(self, holder: dict[str, Any], key: str) -> str:
        return self._of_kind(holder, key, str, "text")

    def whole(self, holder: dict[str, Any], key: str) -> int:
        if isinstance(holder.get(key), bool):
            raise self._unlike(holder, key, "an integer")
        return self._of_kind(holder, key, int, "an integer")

    def object(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(f"found {shown(value)}; {self.layout} has an object there")
        return value

    def objects(self, holder: dict[str, Any], key: str, name: str) -> Iterator[tuple["Place", dict[str, Any]]]:
        """The objects of a list, each with its place: `name` and number from 1."""
        for number, value in enumerate(self.list(holder, key), start=1):
            place = self.inside(f"{name} {number}")
            yield place, place.object(value)

    def _of_kind(self, holder: dict[str, Any], key: str, kind: type, words: str) -> Any:
        if not isinstance(holder.get(key), kind):
            raise self._unlike(holder, key, words)
        return holder[key]

    def _unlike(self, holder: dict[str, Any], key: str, words: str) -> ValueError:
        return self.error(f"{key!r} is {shown(holder.get(key))}; {self.layout} has {words} there")
