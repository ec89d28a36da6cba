"""Values by id that are made when they are read, those of neighbours together: as many as are wanted, in the memory of a few.

Whoever reads them in order has each made once. In any other order each step to another chunk makes that chunk.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np

T = TypeVar("T")
S = TypeVar("S")


class MadeInChunks(Mapping[str, T]):
    """The values of the chunk that was read last are kept, and are the same objects when they are read again."""

    def __init__(self, keys: Sequence[str], begin_C: np.ndarray, make: Callable[[int, int], list[T]]):
        """`keys`: distinct. `begin_C`: the first row of each chunk, 0 first; empty without keys. `make`: the values of rows [first, last)."""
        self._keys, self._begin_C, self._make = keys, begin_C, make
        self._kept: tuple[int, list[T]] = (0, [])
        self._last = -1

    def __getitem__(self, key: str) -> T:
        row = self._row(key)
        if row is None:
            raise KeyError(key)
        first, values = self._kept
        if not first <= row < first + len(values):
            chunk = int(np.searchsorted(self._begin_C, row, side="right")) - 1
            following = self._begin_C[chunk + 1 : chunk + 2].tolist() or [len(self._keys)]
            first, last = int(self._begin_C[chunk]), following[0]
            self._kept = (0, [])  # else two chunks are in memory
            values = self._make(first, last)
            self._kept = (first, values)
        return values[row - first]

    def keep(self, first: int, values: list[T]) -> None:
        """The values of the chunk that begins with this row, for a caller that has made them already."""
        self._kept = (first, values)

    def __contains__(self, key: object) -> bool:
        return self._row(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def _row(self, key: object) -> int | None:
        """Ids are asked for in order, nearly always: a table of all rows is made only if they are not."""
        last, keys = self._last, self._keys
        following = last + 1 if last + 1 < len(keys) else 0
        if following < len(keys) and keys[following] == key:
            self._last = following
            return following
        if last >= 0 and keys[last] == key:
            return last
        row = self._row_of.get(key)
        if row is not None:
            self._last = row
        return row

    @cached_property
    def _row_of(self) -> dict[object, int]:
        return {key: row for row, key in enumerate(self._keys)}


class Through(Mapping[str, T]):
    """The values of another mapping, each through a function when it is read."""

    def __init__(self, function: Callable[[S], T], values: Mapping[str, S]):
        self._function, self._values = function, values

    def __getitem__(self, key: str) -> T:
        return self._function(self._values[key])

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
