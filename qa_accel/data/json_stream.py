"""An open JSON file -> its elements one by one, so that memory holds one article (or row), not the file.

Elements are those of a list, of the list under "data" in an object, or under "questions" if this key is the first (BioASQ),
or one object after another (JSON lines), whichever the file has. `json.loads` of SQuAD's training file would hold some 300 MB for its 38 MB.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from qa_accel.input_files import limit_of

PIECE = 2**20  # characters per read
BLANKS = re.compile(r"[ \t\n\r]*")


class JsonStream:
    def __init__(self, text: IO[str], path: Path):
        self.text, self.path = text, path
        self.buffer, self.at = "", 0  # unused characters begin at `at`
        self.before, self.lines_before = 0, 0  # characters and line ends before the buffer
        self.ended = False
        self.decode = json.JSONDecoder().raw_decode

    def elements(self) -> Iterator[Any]:
        first = self.peek()
        if first == "[":
            yield from self.list_elements()
        else:
            row, has_list = {}, False
            self.expect("{")
            while True:
                key = self.value()
                self.expect(":")
                if (key == "data" or (key == "questions" and not row)) and self.peek() == "[":
                    has_list = True
                    yield from self.list_elements()
                else:
                    row[key] = self.value()
                if self.expect(",}") == "}":
                    break
            if not has_list:
                yield row
                while self.peek():
                    yield self.value()
        if self.peek():
            raise self.broken("text after the end of the JSON value")

    def list_elements(self) -> Iterator[Any]:
        self.expect("[")
        if self.peek() == "]":
            self.expect("]")
            return
        while True:
            yield self.value()
            if self.expect(",]") == "]":
                return

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self.decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                if self.more():
                    continue
                raise self.broken(error.msg, error.pos) from error
            except (RecursionError, ValueError) as error:
                raise self.broken(limit_of(error)) from None
            # A number may continue in the unread part ("1." or "1e+"); every other value ends with its own mark.
            if end + 3 > len(self.buffer) and self.more():
                continue
            self.at = end
            return value

    def peek(self) -> str:
        """The next character that is not blank, or "" at the end."""
        while True:
            self.at = BLANKS.match(self.buffer, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.more():
                return ""

    def expect(self, characters: str) -> str:
        found = self.peek()
        if not found or found not in characters:
            wanted = " or ".join(map(repr, characters))
            raise self.broken(f"expected {wanted}, found {repr(found) if found else 'the end of the file'}")
        self.at += 1
        return found

    def more(self) -> bool:
        # Doubling the buffer keeps the retries on one long value linear in its length.
        piece = "" if self.ended else self.text.read(max(PIECE, len(self.buffer) - self.at))
        if not piece:
            self.ended = True
            return False
        self.before += self.at
        self.lines_before += self.buffer.count("\n", 0, self.at)
        self.buffer, self.at = self.buffer[self.at :] + piece, 0
        return True

    def broken(self, reason: str, at: int | None = None) -> ValueError:
        at = self.at if at is None else at
        line = self.lines_before + self.buffer.count("\n", 0, at) + 1
        return ValueError(
            f"{self.path}: broken JSON at line {line} (character {self.before + at + 1:,} of the file): {reason}; "
            "download or rewrite the file"
        )
