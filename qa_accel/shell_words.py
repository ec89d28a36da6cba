"""Settings -> a command that can be copied into a shell: flags, quoted, whatever characters their values have."""

import shlex
from collections.abc import Mapping
from typing import Any

from qa_accel.terminal import visible


def flags(settings: Mapping[str, Any]) -> list[str]:
    """A text per setting, as `config.parse` reads it: `--name value`, `--name` for a switch that is on."""
    return [_flag(name, value) for name, value in settings.items()]


def _flag(name: str, value: Any) -> str:
    if value is True:
        return f"--{name}"
    if value is False:
        return f"--{name} false"
    if isinstance(value, list | tuple):
        return " ".join([f"--{name}", *map(quoted, map(str, value))])
    word = quoted(str(value))
    return f"--{name}={word}" if word.startswith("-") else f"--{name} {word}"


def quoted(word: str) -> str:
    """The word as a shell reads it back. One line: bash's $'...' for characters that would not be seen, or would be obeyed."""
    if visible(word) == word:
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    # not as `visible` writes them: to bash \x9b is a byte, \u009b a character
    return "$'" + "".join(one if visible(one) == one else f"\\u{ord(one):04x}" for one in escaped) + "'"
