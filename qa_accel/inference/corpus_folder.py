"""The folder of a corpus's answers: which pieces it is to hold, which are done, whose they are, and its manifest.

A piece's name is that of its input file, its number there, and a hash of all that its answers follow from: model, settings,
path, size and time of the file, the range. So a piece of other answers never passes for one of these, and any number of
processes may fill the folder, now or later: what is there under its name is done.
"""

import hashlib
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qa_accel import files
from qa_accel.data.corpus_pieces import CorpusFile, Piece, is_below
from qa_accel.distributed.claims import Claims
from qa_accel.inference import corpus_table
from qa_accel.messages import listed, quoted, short

logger = logging.getLogger(__name__)

RUN_FILE = "corpus.json"
"""What the answers follow from, for a message that says what has changed."""
PIECE_NAME = re.compile(r"(.+)\.(\d{5,})\.[0-9a-f]{16}\.parquet")
SECONDS_OF_A_PARTIAL = 3600
"""A partial file of a piece that has not changed for so long belongs to a dead process. A claim alone does not say so: where
locks do not work, another process may be writing it."""
VERSION = 1
"""Increase it when the same input gives other pieces."""


@dataclass(frozen=True)
class Identity:
    """What the answers follow from, beside the corpus."""

    model: str
    """Hash of weights, tokenizer and config."""
    settings: dict[str, Any]
    """Each by its flag's name."""


@dataclass(frozen=True)
class NamedPiece:
    name: str
    """Of its file in the folder."""
    piece: Piece


def named_pieces(pieces: Sequence[Piece], identity: Identity) -> list[NamedPiece]:
    return [NamedPiece(_name(piece, identity), piece) for piece in pieces]


def _name(piece: Piece, identity: Identity) -> str:
    file = piece.file
    content = [VERSION, identity.model, identity.settings, str(file.path), file.size, file.changed]
    text = json.dumps([*content, piece.begin, piece.end], sort_keys=True)
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", file.path.stem)[:80]
    return f"{stem}.{piece.number:05d}.{digest}.parquet"


class CorpusFolder:
    """One process's view of the folder."""

    def __init__(self, folder: Path, pieces: Sequence[NamedPiece], identity: Identity, corpus: Sequence[CorpusFile]):
        """Raises ValueError if it holds pieces of other answers, with what differs, or if it holds the corpus itself."""
        self.path, self.pieces, self.identity = folder, pieces, identity
        self._corpus = corpus
        self.tag = secrets.token_hex(4)
        """In the names of this process's partial files, and those of its workers."""
        for file in corpus:
            if is_below(file.path, folder):
                raise ValueError(
                    f"--output_dir {folder} holds {file.path} of --test_file, and the answers would be read as questions: take "
                    "another folder"
                )
        self.claims = Claims(folder)
        self.claims.take(RUN_FILE, wait=True)
        try:
            self._check_and_describe()
        finally:
            self.claims.give_back(RUN_FILE)

    def done(self) -> set[str]:
        """Names of the pieces that are there, these and others; also damaged ones."""
        return {entry.name for entry in os.scandir(self.path) if PIECE_NAME.fullmatch(entry.name)}

    def is_done(self, piece: NamedPiece) -> bool:
        return (self.path / piece.name).exists()

    def claim(self, piece: NamedPiece) -> bool:
        """Whether the piece is this process's to compute: not done, and nobody else computes it.

        Raises ValueError if the folder has become that of other answers.
        """
        self._check_that_it_is_ours()
        if self.is_done(piece) or not self.claims.take(piece.name):
            return False
        if self.is_done(piece):  # another process has just finished it
            self.claims.give_back(piece.name)
            return False
        files.remove_partials_of(self.path / piece.name, seconds=SECONDS_OF_A_PARTIAL)
        return True

    def drop_all(self) -> None:
        """Give back the pieces that were not finished, and delete what is on the disk of them."""
        for name in list(self.claims.held):
            files.remove_partials_of(self.path / name, tag=self.tag)
            self.claims.give_back(name)

    def remove_if_damaged(self, piece: NamedPiece) -> str | None:
        """What was wrong with a piece that is there, None if it is whole."""
        damage = corpus_table.damage_of(self.path / piece.name)
        if damage is not None and self.claims.take(piece.name):
            files.remove(self.path / piece.name)
            files.remove(self.path / files.MANIFEST)
            self.claims.give_back(piece.name)
        return damage

    def finish(self, versions: dict[str, str], tick: Callable[[], None] = lambda: None) -> dict[str, Any] | None:
        """The manifest, if all pieces are there; written unless it is there already. None if some are missing or damaged.

        `tick` is called before each piece is read, and may raise to stop.
        """
        expected = {piece.name for piece in self.pieces}
        if not expected <= self.done():
            return None
        self.claims.take(files.MANIFEST, wait=True)
        try:
            found = self._manifest()
            if found is None:
                found = self._make_manifest(versions, tick)
                files.write_json(self.path / files.MANIFEST, found)
            return found
        except FileNotFoundError:  # another process has found a piece damaged and is computing it again
            return None
        except ValueError as error:
            logger.warning("%s", error)
            return None
        finally:
            self.claims.give_back(files.MANIFEST)

    def _manifest(self) -> dict[str, Any] | None:
        """The manifest, if it is one of these pieces, and maybe of more of the same answers, with the sizes that they have.

        More: a process that was started with more files has finished first.
        """
        try:
            found = json.loads((self.path / files.MANIFEST).read_bytes())
            sizes = {name: entry["size"] for name, entry in found["files"].items()}
            whose = Identity(found["model"], found["settings"])
            totals = [found["questions"], found["windows"], found["answered"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if whose != self.identity or not {piece.name for piece in self.pieces} <= sizes.keys() <= self.done():
            return None
        there = {name: (self.path / name).stat().st_size for name in sizes}
        return found if sizes == there and all(type(total) is int for total in totals) else None

    def _make_manifest(self, versions: dict[str, str], tick: Callable[[], None]) -> dict[str, Any]:
        """Made of what is on the disk, not of what this process remembers."""
        listed_files: dict[str, dict[str, Any]] = {}
        totals: dict[str, Any] = dict.fromkeys(corpus_table.COUNTS, 0)
        for piece in self.pieces:
            tick()
            path = self.path / piece.name
            counts = corpus_table.counts_of(path)
            listed_files[piece.name] = counts | {
                "size": path.stat().st_size,
                "sha256": files.sha256(path),
                "input": str(piece.piece.file.path),
                "begin": piece.piece.begin,
                "end": piece.piece.end,
            }
            totals = {name: totals[name] + counts[name] for name in totals}
        return {
            **totals,
            "model": self.identity.model,
            "settings": self.identity.settings,
            "versions_of_last_process": versions,
            "files": listed_files,
        }

    def _check_and_describe(self) -> None:
        stale = sorted(self.done() - {piece.name for piece in self.pieces})
        run = {
            "version": VERSION,
            "model": self.identity.model,
            "settings": self.identity.settings,
            "files": {str(file.path): [file.size, file.changed] for file in self._corpus},
        }
        before = self._description()
        if stale:
            raise ValueError(
                f"--output_dir {self.path} holds {len(stale):,} pieces of other answers, the first {short(stale[0])}: "
                f"{_difference(before, run)}. Take another --output_dir, or delete these pieces, and they are computed again"
            )
        if before != run:
            files.write_json(self.path / RUN_FILE, run)
        self._described = self._state_of_description()
        if not {piece.name for piece in self.pieces} <= self.done():
            files.remove(self.path / files.MANIFEST)  # its presence says that all is done

    def _check_that_it_is_ours(self) -> None:
        """Two starts with different settings may both find the folder empty; the later one describes it."""
        state = self._state_of_description()
        if state == self._described:
            return
        found = self._description()
        ours = {"version": VERSION, "model": self.identity.model, "settings": self.identity.settings}
        if found and any(found.get(name) != value for name, value in ours.items()):
            raise ValueError(
                f"--output_dir {self.path}: another start has taken the folder for other answers meanwhile: "
                f"{_difference(found, ours | {'files': {}})}. Take another --output_dir, and delete this start's pieces here"
            )
        self._described = state

    def _state_of_description(self) -> tuple[int, int] | None:
        """Changes when the file is replaced; None if there is none."""
        try:
            status = (self.path / RUN_FILE).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _description(self) -> dict[str, Any]:
        """The former start's; empty if there is none, or none that can be read."""
        try:
            found = json.loads((self.path / RUN_FILE).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What is not as it was when these pieces were computed."""
    if not before:
        return f"{RUN_FILE} is missing or damaged, so it cannot be said of which"
    if before.get("version") != now["version"]:
        return f"they are of version {quoted(before.get('version'))} of these files, this is {now['version']}"
    if before.get("model") != now["model"]:
        return (
            "the model has changed (its weights, tokenizer or config.json, where the threshold and the calibration are)"
        )
    old, new = before.get("settings"), now["settings"]
    if old != new and isinstance(old, dict):
        names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        changes = [f"{name} was {quoted(old.get(name))}, is {quoted(new.get(name))}" for name in names]
        return f"other settings ({listed(changes, length=200)})"
    then, today = before.get("files"), now["files"]
    if isinstance(then, dict):
        if changed := [name for name in then if name in today and then[name] != today[name]]:
            return (
                f"the input has changed: {listed(changed, length=200)} has another size or time of change than before (cp -p and "
                "rsync -t keep the time)"
            )
        if gone := [name for name in then if name not in today]:
            return f"the input has changed: {listed(gone, length=200)} is no longer in --test_file"
    return f"{RUN_FILE} names none of their files"
