"""Paths of runs -> names that tell them apart."""

import os
from collections.abc import Sequence
from pathlib import Path

from qa_accel.terminal import visible


def run_names(paths: Sequence[Path]) -> list[str]:
    """The ends of the paths, as long as it takes to tell them apart, of no more than two folders: the report is passed on."""
    parts = [Path(os.path.abspath(path)).parts[1:] for path in paths]
    is_file = [path.is_file() for path in paths]
    for length in (1, 2, 3):
        names = [visible("/".join(each[-min(length, 2 + file) :])) for each, file in zip(parts, is_file)]
        if len(set(names)) == len(names):
            break
    return numbered(names)


def numbered(names: list[str]) -> list[str]:
    """With " (1)", " (2)" after equal ones."""
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
