"""An open file, pipe or terminal -> questions as rows, one by one or in lists of what has arrived. Memory holds one list.

Three forms are told apart by the first line: JSON lines, CSV with a header, and, where rows need no other column, a question
per line. A line that cannot be read becomes a row with an error, so that a long stream is not lost to it. A line of another project's
layout, such as a paragraph with questions, becomes the rows of its questions.
"""

import csv
import os
import select
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import chain
from json import JSONDecodeError
from pathlib import Path
from typing import Any, NamedTuple

from qa_accel.data.csv_rows import SEPARATORS, separator_of
from qa_accel.data.layouts.known import element_rows, layout_of
from qa_accel.data.layouts.layout import File
from qa_accel.data.squad_format import missing_column
from qa_accel.input_files import parse_json
from qa_accel.messages import listed, short, shown

PIECE = 2**16
"""Bytes per read: as much as a pipe holds."""
PATIENCE = 0.01
"""Seconds that a row waits for the next one, since a program that writes rows needs a moment for each; a person does not
notice it."""
LONGEST_LINE = 2**26
"""Bytes. What goes on longer is no line of text, and would fill the memory."""


class ArrivingRow(NamedTuple):
    line: int
    """Line of the source, from 1, in which the row ends."""
    values: dict[str, Any]
    error: str | None = None
    """Why it could not be read."""


class ArrivingLines:
    """Lines of an open file, with their ends. Bytes that are not UTF-8 become halves of surrogate pairs.

    Raises ValueError, with name and line, for a line without an end.
    """

    def __init__(self, descriptor: int, name: str):
        self.name, self.number = name, 0
        self._descriptor, self._ended = descriptor, False
        self._lines: deque[bytes] = deque()
        self._unfinished: list[bytes] = []
        self._unfinished_bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self._lines:
            if self._ended:
                raise StopIteration
            self._wait(None)
            self._read()
        line = self._lines.popleft()
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        return line.decode(errors="surrogateescape")

    def is_ready(self) -> bool:
        """Whether there is a whole line, or will be in a moment."""
        while not self._lines and not self._ended and self._wait(PATIENCE):
            self._read()
        return bool(self._lines)

    def _wait(self, seconds: float | None) -> bool:
        return bool(select.select([self._descriptor], [], [], seconds)[0])

    def _read(self) -> None:
        piece = os.read(self._descriptor, PIECE)
        if not piece:
            self._ended = True
            if self._unfinished:
                self._lines.append(b"".join(self._unfinished))
            return
        *whole, rest = piece.split(b"\n")
        for end in whole:
            self._lines.append(b"".join([*self._unfinished, end, b"\n"]))
            self._unfinished, self._unfinished_bytes = [], 0
        if rest:
            self._unfinished.append(rest)
            self._unfinished_bytes += len(rest)
        if self._unfinished_bytes > LONGEST_LINE:
            line = self.number + len(self._lines) + 1
            raise ValueError(
                f"{self.name}: line {line} is longer than {LONGEST_LINE:,} bytes; a row per line is expected"
            )


def ready_rows(rows: Iterable[ArrivingRow | None], lines: ArrivingLines, most: int) -> Iterator[list[ArrivingRow]]:
    """Lists of 1 to `most` rows. The first is waited for, the others only join it if their lines are there already.

    `rows`: those of `lines`; None for a blank line, behind which no row may be waited for either.
    """
    rows = iter(rows)
    for first in rows:
        if first is None:
            continue
        ready = [first]
        while len(ready) < most and lines.is_ready():
            following = next(rows, None)
            if following is not None:
                ready.append(following)
        yield ready


def question_rows(lines: ArrivingLines, question_column: str, *, plain: bool) -> Iterator[ArrivingRow | None]:
    """A row per question, None for a blank line. `plain`: a line of text may be a question, as the only column.

    Raises ValueError, with the source, for a first line that is of no such form, or a header that names a column twice.
    """
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        return
    if first.lstrip().startswith("{"):
        elements = (_json_rows(lines.number, line, Path(lines.name)) for line in chain([first], lines))
        yield from chain.from_iterable(elements)
        return
    csv.field_size_limit(LONGEST_LINE)  # a quote that is never closed would take in all that follows
    try:
        separator = separator_of(first)
        header = next(csv.reader([first], delimiter=separator), [])
    except csv.Error:  # a carriage return in the middle
        separator, header = ",", []
    if question_column in header:
        yield from _csv_rows(lines, header, separator)
    elif plain:
        yield from (_text_row(lines.number, line, question_column) for line in chain([first], lines))
    else:
        raise ValueError(_unknown_form(lines.name, first, header, question_column))


def _json_rows(number: int, line: str, source: Path) -> Iterator[ArrivingRow | None]:
    """A row, or those of a line that has another project's layout; None if it has none."""
    row = _json_row(number, line)
    if row is None or row.error is not None or layout_of(row.values) is None:
        yield row
        return
    file, found = File(source), False
    try:
        for _, values in element_rows(row.values, 1, file):  # each line may have a layout of its own
            found = True
            yield ArrivingRow(number, values)
        if not found:
            yield None
    except ValueError as error:
        yield ArrivingRow(number, {}, str(error).removeprefix(f"{source}: "))
    file.warn()


def _json_row(number: int, line: str) -> ArrivingRow | None:
    if not line.strip():
        return None
    if not _is_utf8(line):
        return ArrivingRow(number, {}, NOT_UTF8)
    try:
        values = parse_json(line)
    except ValueError as error:
        # the module's own message counts lines too, from the beginning of this one
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, JSONDecodeError) else str(error)
        return ArrivingRow(number, {}, f"is not JSON ({reason}); each line must be one object")
    if not isinstance(values, dict):
        return ArrivingRow(number, {}, f"{shown(values)}; an object with columns is expected")
    return ArrivingRow(number, values)


def _text_row(number: int, line: str, question_column: str) -> ArrivingRow | None:
    if not line.strip():
        return None
    return ArrivingRow(number, {question_column: line.strip()}, None if _is_utf8(line) else NOT_UTF8)


def _csv_rows(lines: ArrivingLines, header: list[str], separator: str) -> Iterator[ArrivingRow | None]:
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise ValueError(f"{lines.name}: the header names a column twice: {listed(twice)}; rename one")
    reader = csv.reader(lines, strict=True, delimiter=separator)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield ArrivingRow(lines.number, {}, f"{error}; check its quoting")
            continue
        yield _csv_row(lines.number, cells, header, separator) if any(map(str.strip, cells)) else None


def _csv_row(number: int, cells: list[str], header: list[str], separator: str) -> ArrivingRow:
    values = dict(zip(header, cells))
    if len(cells) != len(header):
        return ArrivingRow(
            number,
            values,
            f"{len(cells)} cells, the header has {len(header)} ({listed(header)}); put cells that hold "
            f"{SEPARATORS[separator]}, quotes or line breaks in double quotes",
        )
    return ArrivingRow(number, values, None if all(map(_is_utf8, cells)) else NOT_UTF8)


NOT_UTF8 = "is not UTF-8; save the text as UTF-8"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unknown_form(name: str, first: str, header: list[str], question_column: str) -> str:
    """What is wrong with a first line."""
    if first.startswith(("\x1f\udc8b", "PAR1")):
        found = "is gzip or Parquet; unpack it, or use qa-accel predict"
    elif not _is_utf8(first):
        found = NOT_UTF8
    elif first.startswith("["):
        found = "begins with a list; write an object per line, as `jq -c '.[]'` does"
    elif len(header) > 1:
        found = f"has a header, but {missing_column(header, question_column, 'question_column')}"
    else:
        found = f"begins with {short(first.strip())}; plain text is a question only with --context_file"
    return f"{name}: {found}; expected JSON lines, or CSV with a header"
