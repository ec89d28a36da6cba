"""A case -> what its command did: exit code, output, the files that it left behind.

Each command runs in a forked process with its imports done (processes.py), in a fresh folder, so a case takes a fraction of a
second. Its memory is limited, so that an input that is read without end ends itself.
"""

import json
import os
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from processes import run, script
from speed import scaled

from bad_input_cases import readers
from bad_input_cases.base import SCRIPTS, Base
from bad_input_cases.case import Case, Place, Run

MEMORY = 6 << 30
"""Bytes that a command may take."""


@dataclass(frozen=True)
class Result:
    place: Place
    code: int | None
    """Exit code; negative: the signal that ended it; None: it did not end in time."""
    output: str
    seconds: float
    before: dict[str, bytes]
    """The files of the case's folder when the command started: name -> content."""
    after: dict[str, bytes]


def result_of(case: Case, base: Base, folder: Path) -> Result:
    folder.mkdir(parents=True)
    place = Place(folder, base)
    try:
        command = case.make(place)
    except Exception as error:
        raise RuntimeError(f"{case.title}: the input itself could not be made") from error
    before, began = files_of(folder), time.monotonic()
    try:
        left = run(start, folder, command, limit=scaled(case.seconds))[0]
        code, output = left.code, left.output
    except TimeoutError as error:
        code, output = None, str(error)
    return Result(place, code, output, time.monotonic() - began, before, files_of(folder))


def start(folder: Path, command: Run) -> None:
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    if command.file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (command.file_size, command.file_size))
    if command.command == "reader":
        model, name, settings = command.words
        readers.answer(folder, model, name, json.loads(settings))
    else:
        script(SCRIPTS / f"{command.command}.py", command.words)


def files_of(folder: Path) -> dict[str, bytes]:
    """Regular files below a folder, the folders too, so that one that is left behind is noticed."""
    found: dict[str, bytes] = {}
    for above, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(above, name)
            regular = os.path.isfile(path) and not os.path.islink(path)
            found[os.path.relpath(path, folder)] = Path(path).read_bytes() if regular else b""
    return found


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
