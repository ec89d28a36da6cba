"""Text from data, paths and errors -> what a person may safely see of it; consoles and logs that show it literally.

A terminal obeys escape sequences, and right-to-left overrides show a text in another order than its own. So control
characters are shown as Python writes them (`\\x1b`). Consoles take no text for markup: what is to have a style is a
rich `Text`.
"""

import logging
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command and its errors work without any dependency
    from rich.console import Console

CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
"""Control characters, halves of surrogate pairs, the two separators of lines and paragraphs."""
OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that change the order in which those after them are shown. Marks (U+200E, U+200F) and joiners are text."""
_NOT_ASCII_PRINTABLE = re.compile(r"[^ -~]")


def visible(text: object) -> str:
    """One line, with what would not be seen, or would be obeyed, written out: `\\n`, `\\x1b`, `\\u202e`, `\\ud800`."""
    return _NOT_ASCII_PRINTABLE.sub(_written_out, str(text))


def visible_lines(text: object) -> str:
    """As `visible`, but line breaks stay."""
    return "\n".join(map(visible, str(text).split("\n")))


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    hidden = unicodedata.category(character) in CATEGORIES or character in OVERRIDES
    return character.encode("unicode_escape", "surrogatepass").decode() if hidden else character


def make_console(**options: Any) -> "Console":
    """A console that shows strings as they are, in cells and titles of tables too. `options`: as rich takes them."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, **options)


class _LiteralFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible_lines(super().format(record))


def log_warnings() -> None:
    """Warnings and errors of all loggers go to stderr, control characters shown."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LiteralFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def show_all_characters() -> None:
    """Let stdout write out what its encoding lacks, as stderr does: a name in another script must not end a run."""
    if hasattr(sys.stdout, "reconfigure"):  # another object may be in its place
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
