"""Files of several sets, `NAME=FILE` or `NAME=FILE:WEIGHT`, -> the sets, and their questions in one table.

The same id may be in two sets (translations of one question): in the table it is NAME/id, and the column `set` has the name.
"""

import glob
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qa_accel.data import sources, squad_format
from qa_accel.data.file_rows import Row
from qa_accel.messages import PATH, listed, quoted, short

SET = "set"
"""Column with the name of a question's set."""
SCHEMA = squad_format.SCHEMA.append(pa.field(SET, pa.string()))
RESERVED = ("hasans", "noans", "best", "mean", "eval", "multi")
"""Parts of scores' names, in lower case. A set's scores begin with its name, and x_best_f1 must be of no set but x."""

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})=(.+)", re.DOTALL)
_WEIGHTED = re.compile(r"(.+):([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)", re.DOTALL)


@dataclass(frozen=True)
class NamedFiles:
    """One set as a command line names it."""

    name: str
    patterns: tuple[str, ...]
    weight: float | None
    """None where none is given."""


def named_files(patterns: Sequence[str], setting: str) -> tuple[NamedFiles, ...] | None:
    """The sets in the order of their names' first use; None if the files have no names.

    A path that exists as it is written, or a glob that matches so, is no name, whatever characters it has. Raises ValueError if only some of the files
    have a name, for a name that scores cannot have, and for weights that are no weights or contradict each other.
    """
    named = [None if _exists(pattern) else _NAMED.fullmatch(pattern) for pattern in patterns]
    if not any(named):
        return None
    found: dict[str, NamedFiles] = {}
    for pattern, match in zip(patterns, named):
        if match is None:
            raise ValueError(
                f"--{setting} {short(pattern, PATH)}: has no name, but others have; give each file the name of its set (NAME=FILE), "
                "or none"
            )
        name = match[1]
        if taken := next((part for part in name.split("_") if part.casefold() in RESERVED), None):
            raise ValueError(
                f"--{setting} {short(pattern, PATH)}: a set cannot be called {name}: {taken} is a part of other scores' names"
            )
        path, weight = _weight(match[2], f"--{setting} {short(pattern, PATH)}")
        before = found.get(name, NamedFiles(name, (), None))
        if None not in (before.weight, weight) and before.weight != weight:
            raise ValueError(f"--{setting}: the set {name} has the weights {before.weight:g} and {weight:g}; give one")
        found[name] = NamedFiles(name, (*before.patterns, path), before.weight if weight is None else weight)
    folded = [name.casefold() for name in found]
    if len(set(folded)) < len(folded):
        raise ValueError(f"--{setting}: the names {listed(found)} differ in upper and lower case alone; rename one")
    return tuple(found.values())


def weights_of(patterns: Sequence[str] | None, setting: str) -> dict[str, float]:
    """Weight of each set, 1 where none is given; empty if the files have no names."""
    sets = None if patterns is None else named_files(patterns, setting)
    return {each.name: 1.0 if each.weight is None else each.weight for each in sets or ()}


def name_and_path(pattern: str) -> tuple[str, str]:
    """NAME=FILE or NAME=FILE:WEIGHT in two: `NAME=`, empty if there is none, and the rest."""
    match = None if _exists(pattern) else _NAMED.fullmatch(pattern)
    return ("", pattern) if match is None else (f"{match[1]}=", match[2])


@dataclass(frozen=True)
class NamedSource:
    """A set whose files have been found."""

    name: str
    source: sources.Source
    weight: float


@dataclass(frozen=True)
class NamedSources:
    """Sets as one source."""

    sets: tuple[NamedSource, ...]

    @property
    def name(self) -> str:
        return ", ".join(f"{each.name} ({each.source.name})" for each in self.sets)

    def hashes(self, cache_dir: Path) -> tuple[str, ...]:
        """Each set's name before the hashes of its files. Weights are none of it: the questions are the same."""
        return tuple(part for each in self.sets for part in (f"set {each.name}", *each.source.hashes(cache_dir)))

    @property
    def readings(self) -> tuple[tuple[str, ...], ...]:
        """As `Source.readings`."""
        found = tuple(reading for each in self.sets for reading in each.source.readings or ((),))
        return found if any(found) else ()

    def rows(self) -> Iterator[Row]:
        return chain.from_iterable(each.source.rows() for each in self.sets)

    def question_batches(self, columns: squad_format.Columns) -> Iterator[pa.RecordBatch]:
        """Record batches of SCHEMA, set after set. The answers are null in every row or in none."""
        labelled: dict[bool, str] = {}
        for each in self.sets:
            empty = True
            for batch in squad_format.question_batches(each.source.rows(), columns):
                empty = False
                labelled.setdefault(batch.column("answers").null_count == 0, each.name)
                if len(labelled) == 2:
                    raise ValueError(
                        f"{each.source.name}: the set {labelled[False]} has no {columns.answers!r}, but the set {labelled[True]} "
                        "has; answer sets without gold answers in a run of their own"
                    )
                yield _with_name(batch, each.name)
            if empty:
                raise ValueError(f"{each.source.name}: the set {each.name} holds no question; at least one is expected")

    def gold_texts_by_id(self, columns: squad_format.Columns) -> dict[str, list[str]]:
        """As `squad_format.gold_texts_by_id`, by NAME/id."""
        return {
            f"{each.name}/{key}": texts
            for each in self.sets
            for key, texts in squad_format.gold_texts_by_id(each.source.rows(), columns).items()
        }


def named_sources(patterns: Sequence[str], setting: str) -> NamedSources | None:
    """The sets, or None if the files have no names. Raises ValueError as `named_files`, and for files that are not there."""
    sets = named_files(patterns, setting)
    if sets is None:
        return None
    if setting != "train_file" and (weighted := next((each for each in sets if each.weight is not None), None)):
        raise ValueError(
            f"--{setting}: the set {weighted.name} has a weight, which only training files can have: every question is "
            "answered once"
        )
    return NamedSources(
        tuple(
            NamedSource(
                each.name, sources.file_source(each.patterns, setting), 1.0 if each.weight is None else each.weight
            )
            for each in sets
        )
    )


def _with_name(batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
    names = pa.array([name] * len(batch))
    ids = pc.binary_join_element_wise(names, batch.column("id"), "/")  # type: ignore[attr-defined]
    arrays = [ids if field.name == "id" else batch.column(field.name) for field in squad_format.SCHEMA]
    return pa.record_batch([*arrays, names], schema=SCHEMA)


@dataclass(frozen=True)
class SetRows:
    """Which set each question, or each window, is of."""

    names: tuple[str, ...]
    set_Q: np.ndarray
    """int32, index of the name."""

    @classmethod
    def of(cls, questions: datasets.Dataset) -> "SetRows | None":
        """None if the questions are of one set without a name."""
        if SET not in questions.column_names:
            return None
        names: dict[str, int] = {}
        codes = []
        for table in questions.select_columns([SET]).with_format("arrow").iter(100_000):
            column = table[SET].combine_chunks().dictionary_encode()  # type: ignore[union-attr]
            known = [names.setdefault(name, len(names)) for name in column.dictionary.to_pylist()]
            codes.append(np.array(known, np.int32)[column.indices.to_numpy()])
        return cls(tuple(names), np.concatenate([np.zeros(0, np.int32), *codes]))

    def of_rows(self, rows: np.ndarray) -> "SetRows":
        """The sets of these questions, in this order: given `question_W`, those of the windows."""
        return SetRows(self.names, self.set_Q[rows])

    def count(self, rows: np.ndarray) -> dict[str, int]:
        """How many of these rows each set has."""
        counts = np.bincount(self.set_Q[rows], minlength=len(self.names)).tolist()
        return dict(zip(self.names, counts, strict=True))

    def by_id(self, ids: Sequence[str]) -> dict[str, str]:
        """Id -> name of its set; `ids` are those of the same questions."""
        return {key: self.names[number] for key, number in zip(ids, self.set_Q.tolist(), strict=True)}


def _exists(pattern: str) -> bool:
    """Whether it is a path or a glob as it is."""
    place = os.path.expanduser(pattern)
    try:
        return Path(place).exists() or (glob.has_magic(place) and any(glob.iglob(place, recursive=True)))
    except (OSError, ValueError):
        return False


def _weight(path: str, where: str) -> tuple[str, float | None]:
    match = None if _exists(path) else _WEIGHTED.fullmatch(path)
    if match is None:
        return path, None
    weight = float(match[2])
    if not 0 < weight < math.inf:
        raise ValueError(f"{where}: a weight is a number above 0, found {quoted(match[2])}")
    return match[1], weight
