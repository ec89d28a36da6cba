"""The text of a CSV or TSV file -> its rows: column name -> cell, as text.

The header shows what separates the cells: of comma, semicolon, tab and bar, what splits it into the most names.
"""

import csv
import logging
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from qa_accel.messages import listed

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def csv_rows(text: IO[str], path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)  # Python's default limit is 131,072 characters; a long context exceeds it
    first_line = text.readline()
    separator = separator_of(first_line)
    if separator != ",":
        logger.warning("%s: the header shows that the cells are separated by %s", path, SEPARATORS[separator])
    reader = csv.DictReader(chain([first_line], text), strict=True, delimiter=separator)
    header = list(_next(reader, path, 0, names=True) or ())
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise ValueError(f"{path}: the header names a column twice: {listed(twice)}; rename one")
    number = 0
    while (cells := _next(reader, path, number)) is not None:
        number += 1
        if None in cells or None in cells.values():  # DictReader's mark for a row that is too long or too short
            found = sum(cells[name] is not None for name in header) + len(cells.get(None, ()))
            raise ValueError(
                f"{path}: row {number} has {found} cells, the header {len(header)} ({listed(header)}); "
                f"put cells that hold {SEPARATORS[separator]}, quotes or line breaks in double quotes"
            )
        yield cells


def separator_of(header: str) -> str:
    """What splits a header into the most names; a comma if nothing does."""
    names = {separator: len(next(csv.reader([header], delimiter=separator), ())) for separator in SEPARATORS}
    return max(names, key=names.__getitem__)  # the first of equals, which is the comma


def _next(reader: csv.DictReader, path: Path, number: int, *, names: bool = False) -> Any:
    """The names in the header, or the next row; None at the end."""
    try:
        return reader.fieldnames if names else next(reader, None)
    except csv.Error as error:
        raise ValueError(
            f"{path}: row {number + 1} (up to line {reader.reader.line_num}): {error}; check its quoting"
        ) from error
