"""A folder with a manifest is known as whole or damaged, whatever its files hold."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from qa_accel import files


def whole_folder(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "weights").write_bytes(b"12345")
    (folder / "inner" / "state").write_bytes(b"")
    files.write_manifest(folder)
    return folder


def test_a_whole_folder_has_no_damage_and_each_changed_byte_is_found(tmp_path):
    """Breaks if files in sub-folders or of equal size are not compared."""
    folder = whole_folder(tmp_path / "whole")
    assert files.damage_of(folder) is None
    (folder / "inner" / "state").write_bytes(b"x")
    assert files.damage_of(folder) == "inner/state has 1 bytes, 0 were written"
    (folder / "inner" / "state").write_bytes(b"")
    (folder / "weights").write_bytes(b"12346")
    assert files.damage_of(folder) == "weights is not what was written (its hash differs)"
    shutil.rmtree(folder / "inner")
    assert files.damage_of(folder) == "inner/state is missing"
    assert files.damage_of(tmp_path / "nowhere") == "there is no such folder"


def listing(**entry) -> str:
    return json.dumps({"files": {"weights": {"size": 5, "sha256": "0" * 64} | entry}})


def naming(name: str) -> str:
    return json.dumps({"files": {name: {"size": 5, "sha256": "0" * 64}}})


NO_MANIFEST = "manifest.json is not one: no file's size and hash can be read from it"
BAD_MANIFESTS = {
    "brackets": ("[" * 100_000, NO_MANIFEST),
    "closed brackets": ("[" * 100_000 + "]" * 100_000, NO_MANIFEST),
    "nested objects": ('{"files":' * 50_000 + "1" + "}" * 50_000, NO_MANIFEST),
    "an integer of 5,000 digits": ('{"files": {"weights": {"size": ' + "9" * 5000 + ', "sha256": ""}}}', NO_MANIFEST),
    "a huge size": (listing(size=10**30), NO_MANIFEST),
    "a negative size": (listing(size=-1), NO_MANIFEST),
    "a fraction": (listing(size=5.0), NO_MANIFEST),
    "size as text": (listing(size="5"), NO_MANIFEST),
    "size as a list": (listing(size=[5]), NO_MANIFEST),
    "size true": (listing(size=True), NO_MANIFEST),
    "size infinite": (listing(size=float("inf")), NO_MANIFEST),
    "hash null": (listing(sha256=None), NO_MANIFEST),
    "not UTF-8": ("\udcff", NO_MANIFEST),
    "zeros": ("\0" * 200, NO_MANIFEST),
    "empty": ("", NO_MANIFEST),
    "null": ("null", NO_MANIFEST),
    "a list of files": ('{"files": ["weights"]}', NO_MANIFEST),
    "a long name": (naming("n" * 300), "n" * 100 + "... cannot be read: File name too long"),
    "a name of a megabyte": (naming("n/" * 500_000), "n/" * 50 + "... cannot be read: File name too long"),
    "a name with a zero": (naming("a\0b"), "'a\\x00b' is missing"),
    "half a surrogate": (naming("\ud800"), "'\\ud800' is missing"),
    "a line break": (naming("a\nb"), "'a\\nb' is missing"),
    "no name": (naming(""), " is missing"),
    "the folder above": (naming("../secret"), "manifest.json lists ../secret, which is not in the folder"),
    "above, further in": (naming("inner/../../secret"), "manifest.json lists inner/../../secret, which is not in the"),
    "an absolute path": (naming("/etc/passwd"), "manifest.json lists /etc/passwd, which is not in the folder"),
    "a folder": (naming("inner"), "inner is missing"),
}


@pytest.mark.parametrize("kind", BAD_MANIFESTS)
def test_a_damaged_manifest_is_a_reason_not_an_exception(tmp_path, kind):
    """Breaks if one damaged checkpoint stops a run that could resume from the one before it, or if a manifest can have any
    file of this machine read."""
    content, reason = BAD_MANIFESTS[kind]
    folder = whole_folder(tmp_path / "run")
    (tmp_path / "secret").write_text("12345")
    (folder / "manifest.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    damage = files.damage_of(folder)
    assert damage is not None and damage.startswith(reason), damage
    assert len(damage) < 200


def test_a_file_that_cannot_be_read_is_a_reason_not_an_exception(tmp_path, monkeypatch):
    """Breaks if an error of the disk while a checkpoint is read stops the run: the one before it may be whole."""
    folder = whole_folder(tmp_path / "run")

    def broken(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sha256", broken)
    assert files.damage_of(folder) == "inner/state cannot be read: Input/output error"
