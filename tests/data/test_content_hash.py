"""Hashes of large files that are kept from start to start: the file's bytes are read again whenever they may have changed."""

import os
import shutil
from pathlib import Path

import pytest

from qa_accel.data import content_hash as module
from qa_accel.data.content_hash import content_hash


@pytest.fixture
def reads(monkeypatch) -> list[Path]:
    """Files whose bytes were read; every file is large, and old enough."""
    found: list[Path] = []
    read = module._read
    monkeypatch.setattr(module, "_read", lambda path: found.append(path) or read(path))
    monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(module, "SETTLED", -60)
    return found


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(b"one\n" * 10)
    return path


def test_a_file_that_did_not_change_is_read_once(reads, source, tmp_path):
    """Breaks if each start reads a large source, or if the hash is that of its times: elsewhere, the same bytes have the same."""
    cache = tmp_path / "cache"
    first = content_hash(source, cache)
    assert content_hash(source, cache) == content_hash(source, cache) == first and len(reads) == 1
    copy = Path(shutil.copy2(source, tmp_path / "copy.jsonl"))
    assert content_hash(copy, cache) == first and len(reads) == 2
    assert content_hash(source, tmp_path / "another") == first and len(reads) == 3


def test_a_change_is_seen_although_size_and_time_are_the_former_ones(reads, source, tmp_path):
    """What `touch -r` or an unpacked archive sets. Breaks if a file is known by size and mtime alone: a run would train on other
    questions than its file has."""
    before = source.stat()
    first = content_hash(source, tmp_path / "cache")
    source.write_bytes(b"two\n" * 10)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (source.stat().st_size, source.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert content_hash(source, tmp_path / "cache") != first
    # replaced, as `mv` does, by a file of the same size and times
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"six\n" * 10)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(source)
    assert content_hash(source, tmp_path / "cache") == content_hash(source, tmp_path / "unused") and len(reads) == 4


def test_nothing_is_kept_of_small_files_and_of_those_that_just_changed(source, tmp_path, monkeypatch):
    """Two changes within a time stamp of a coarse file system look like one."""
    content_hash(source, tmp_path / "cache")
    monkeypatch.setattr(module, "LARGE", 1)
    content_hash(source, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(module, "SETTLED", -60)
    content_hash(source, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_file_that_changes_while_it_is_read_is_read_again(reads, source, tmp_path, monkeypatch):
    """Breaks if the hash of bytes of two versions is kept as that of the later one."""
    read = module._read

    def read_and_change(path: Path) -> str:
        found = read(path)
        path.write_bytes(b"two\n" * 10)
        return found

    monkeypatch.setattr(module, "_read", read_and_change)
    first = content_hash(source, tmp_path / "cache")
    monkeypatch.setattr(module, "_read", read)
    assert content_hash(source, tmp_path / "cache") != first


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"hash": 1}', b"\xff"])
def test_a_damaged_record_counts_as_none(reads, source, tmp_path, content):
    expected = content_hash(source, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(content)
    assert content_hash(source, tmp_path / "cache") == expected and len(reads) == 2
    assert content_hash(source, tmp_path / "cache") == expected and len(reads) == 2


def test_a_cache_that_cannot_be_written_is_no_error(reads, source, tmp_path):
    """A cache that an administrator filled. Breaks if a start fails for a record that it can do without."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file in the folder's place")
    assert content_hash(source, blocked) == content_hash(source, tmp_path / "cache")


@pytest.mark.parametrize("large", [1, 1000])
def test_a_folder_whose_name_is_no_utf8_is_a_folder(tmp_path, monkeypatch, large):
    """As old archives unpack. Breaks if the record's name is made of the path as text."""
    monkeypatch.setattr(module, "LARGE", large)
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/jos\xe9"))
    folder.mkdir()
    (folder / "questions.jsonl").write_bytes(b"one")
    assert content_hash(folder / "questions.jsonl", tmp_path / "cache") == module._read(folder / "questions.jsonl")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"questions\.jsonl: cannot be read"):
        content_hash(tmp_path / "questions.jsonl", tmp_path / "cache")
