"""A file or folder appears under its name whole or not at all, and a damaged folder is detected."""

import contextlib
import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import SafetensorError

from qa_accel import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# One file


def test_a_file_is_replaced_when_the_block_ends_and_not_before(tmp_path):
    """Breaks if the content is written under the final name: a reader or a kill in between would find half of it."""
    path = tmp_path / "new folder" / "a.txt"
    with files.replacing(path) as partial:
        partial.write_text("first")
        assert partial.parent == path.parent and not path.exists()
    with files.replacing(path) as partial:
        partial.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second" and names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("bad row"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_in_the_block_leaves_the_former_file_and_nothing_beside_it(tmp_path, error):
    """Breaks if only some errors remove the temporary file, or if an error of the caller is reported as the disk's."""
    path = tmp_path / "a.txt"
    files.write_text(path, "former")

    def fail():
        with files.replacing(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)) as raised:
        fail()
    assert raised.value is error
    assert path.read_text() == "former" and names(tmp_path) == ["a.txt"]


def test_content_is_forced_to_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """Breaks if fsync is left out or comes after the rename: some file systems report a full disk only there."""
    path = tmp_path / "a.txt"
    files.write_text(path, "former")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"a\.txt cannot be written: No space left on device\. Free some space"):
        files.write_text(path, "new")
    assert path.read_text() == "former" and names(tmp_path) == ["a.txt"]


def on_a_full_disk(program: str, repository: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that cannot write more than 10 kB to a file, which simulates a full disk."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
    words = [sys.executable, "-c", limit + program]
    return subprocess.run(words, cwd=repository, capture_output=True, text=True)


def test_a_full_disk_leaves_the_former_file_and_one_message(tmp_path, repository):
    """Breaks if the file is truncated in place, the temporary file stays and takes the space, or the message is bare."""
    path = tmp_path / "a.txt"
    files.write_text(path, "former")
    program = (
        f"from pathlib import Path; from qa_accel import files; files.write_text(Path({str(path)!r}), 'x' * 20_000)"
    )
    done = on_a_full_disk(program, repository)
    message = f"OSError: {path} cannot be written: File too large. Free some space or fix the cause, then rerun the same command"
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == message
    assert path.read_text() == "former" and names(tmp_path) == ["a.txt"]


def test_a_link_under_a_temporary_name_is_not_followed(tmp_path, monkeypatch):
    """Breaks if a temporary name can be predicted and is opened without O_EXCL: anyone who can write to a shared folder could
    make the user who trains overwrite a file of that user. Here even the random part of the name is known."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0" * 2 * count)
    for planted in (f".a.txt.{'0' * 16}.partial", ".a.txt.partial"):
        (folder / planted).symlink_to(victim)
    with pytest.raises(OSError, match=r"a\.txt cannot be written: File exists"):
        files.write_text(folder / "a.txt", "content")
    assert victim.read_text() == "precious" and not (folder / "a.txt").exists()
    monkeypatch.undo()
    files.write_text(folder / "a.txt", "content")
    assert victim.read_text() == "precious" and (folder / "a.txt").read_text() == "content"


def test_a_link_under_the_final_name_is_replaced_not_followed(tmp_path):
    """Breaks if the final name is opened for writing."""
    victim, path = tmp_path / "victim", tmp_path / "a.txt"
    victim.write_text("precious")
    path.symlink_to(victim)
    files.write_text(path, "content")
    assert victim.read_text() == "precious" and not path.is_symlink() and path.read_text() == "content"


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_that_the_umask_gives(tmp_path, mask, expected):
    """Breaks if the private mode of a temporary file stays, as safetensors leaves it: others in the group could read
    config.json but not the weights. Also breaks if more is given than the user's umask permits."""
    with umask(mask):
        files.write_text(tmp_path / "a.txt", "")
        with files.replacing(tmp_path / "b.txt") as partial:  # as a library that writes by way of a private file
            private = tmp_path / "private"
            private.touch(0o600)
            private.replace(partial)
        folder = tmp_path / "folder"
        (folder / "inner").mkdir(parents=True)
        for path in (folder / "a", folder / "inner" / "b"):
            path.touch(0o600)
        files.apply_umask(folder)
    found = [tmp_path / "a.txt", tmp_path / "b.txt", folder / "a", folder / "inner" / "b"]
    assert [mode_of(path) for path in found] == [expected] * 4


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_linked_or_copied_in_one_step(tmp_path, monkeypatch, links):
    """Breaks where the file system has no hard links, or if an existing file is removed before the new one is there."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    source, target = tmp_path / "best" / "a", tmp_path / "a"
    files.write_text(source, "new")
    files.write_text(target, "old")
    files.link_or_copy(source, target)
    assert target.read_text() == "new" and target.samefile(source) == links
    assert names(tmp_path) == ["a", "best"]


def test_a_file_that_is_linked_already_leaves_no_second_name(tmp_path):
    """A run that was killed while it filled its folder links the same file again. Breaks if the rename is trusted to
    remove the temporary name: of two names of one file it removes none, and reports success."""
    source, target = tmp_path / "best" / "a", tmp_path / "a"
    files.write_text(source, "weights")
    files.link_or_copy(source, target)
    assert target.samefile(source), "else the case is not met"
    files.link_or_copy(source, target)
    assert names(tmp_path) == ["a", "best"] and names(source.parent) == ["a"]


# Several files


def test_several_files_are_replaced_together_or_not_at_all(tmp_path):
    """Breaks if the first takes its name before the last is written: predictions of two runs would be mixed."""
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        files.write_text(path, "former")

    def fail():
        with files.replacing_all(paths) as partials:
            partials[0].write_text("new")
            partials[1].write_text("new")
            raise ValueError("third")

    with pytest.raises(ValueError, match="third"):
        fail()
    assert [path.read_text() for path in paths] == ["former"] * 3 and names(tmp_path) == ["a", "b", "c"]
    with files.replacing_all(paths) as partials:
        for partial, text in zip(partials, "xyz"):
            partial.write_text(text)
    assert [path.read_text() for path in paths] == ["x", "y", "z"] and names(tmp_path) == ["a", "b", "c"]


def test_a_full_disk_in_the_last_of_several_files_replaces_none(tmp_path, repository):
    """Breaks if the files are forced to the disk or renamed one by one, or if the message does not name the folder."""
    files.write_text(tmp_path / "a", "former")
    program = f"""
from pathlib import Path
from qa_accel import files
with files.replacing_all([Path({str(tmp_path)!r}) / name for name in "ab"]) as [a, b]:
    a.write_text("new")
    b.write_text("x" * 20_000)
"""
    done = on_a_full_disk(program, repository)
    assert f"OSError: {tmp_path} cannot be written: File too large." in done.stderr.splitlines()[-1]
    assert (tmp_path / "a").read_text() == "former" and names(tmp_path) == ["a"]


# Folders


def test_a_folder_is_replaced_when_the_block_ends(tmp_path):
    final = tmp_path / "best"
    for text in ("first", "second"):
        with files.replacing_folder(final) as partial:
            assert partial == files.partial_of(final) == tmp_path / ".partial-best" and names(partial) == []
            (partial / "a").write_text(text)
        assert (final / "a").read_text() == text and names(tmp_path) == ["best"]

    def fail():
        with files.replacing_folder(final) as partial:
            (partial / "b").write_text("half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert names(tmp_path) == ["best"] and names(final) == ["a"]


def test_links_under_the_names_of_partial_folders_are_not_followed(tmp_path):
    """These names must be predictable. Breaks if what a link leads to is written in, deleted, or takes a final name."""
    victim, run = tmp_path / "victim", tmp_path / "run"
    victim.mkdir()
    run.mkdir()
    (victim / "a").write_text("precious")
    for planted in (".partial-best", ".partial-old-best", ".partial-old-checkpoint-9", ".b.partial"):
        (run / planted).symlink_to(victim)
    with files.replacing_folder(run / "best") as partial:
        assert not partial.is_symlink()
        (partial / "a").write_text("new")
    with files.replacing_folder(run / "best") as partial:  # now there is one to be replaced
        (partial / "a").write_text("newer")
    files.remove_partial(run)
    assert names(run) == ["best"] and (run / "best" / "a").read_text() == "newer"
    assert names(victim) == ["a"] and (victim / "a").read_text() == "precious"


def test_a_file_or_a_link_in_the_place_of_a_folder_is_replaced(tmp_path):
    """Breaks if a file called `best` stays behind as `.partial-old-best`, or a dangling link stops the rename."""
    (tmp_path / "best").write_text("a file")
    (tmp_path / "other").symlink_to("nowhere")
    for name in ("best", "other"):
        with files.replacing_folder(tmp_path / name) as partial:
            (partial / "a").write_text("new")
    assert names(tmp_path) == ["best", "other"] and (tmp_path / "other" / "a").read_text() == "new"


# What killed processes leave


def killed_while_writing(path: Path) -> Path:
    """What a process leaves that is killed within `replacing`."""
    with files.replacing(path) as partial:
        partial.write_text("half")
        kept = partial.with_name("kept")
        partial.rename(kept)
        partial.touch()
    return kept.rename(partial)


def test_what_was_left_a_day_ago_is_deleted_and_what_is_being_written_is_not(tmp_path):
    """Breaks if a cache fills up with the remains of killed runs, or if a run deletes what another one is writing. What
    another program calls `.partial` is not ours to delete."""
    old = killed_while_writing(tmp_path / "questions-1.arrow")
    new = killed_while_writing(tmp_path / "questions-2.arrow")
    busy, dead = (tmp_path / f".windows-{number}.arrow.{'a' * 16}.partial-x" for number in (1, 2))
    dangling, foreign = tmp_path / f".b.{'a' * 16}.partial", tmp_path / ".video.partial"
    for folder in (busy, dead):
        folder.mkdir()
        (folder / "part").write_text("half")
    foreign.write_text("somebody's")
    dangling.symlink_to("nowhere")
    yesterday = time.time() - 25 * 3600
    for path in (old, busy, busy / "part", dead / "part", dead, dangling, foreign):
        os.utime(path, (yesterday, yesterday), follow_symlinks=False)
    (busy / "part").write_text("still growing")
    files.write_text(tmp_path / "questions-3.arrow", "whole")
    others = ["questions-1.arrow", "questions-2.arrow", "questions-3.arrow"]
    assert names(tmp_path) == sorted([foreign.name, new.name, busy.name, *others])


def test_the_one_writer_of_a_folder_deletes_all_that_a_killed_one_left_at_once(tmp_path):
    """Breaks if a finished run keeps temporary files for good, or if the former best model is lost between two renames."""
    killed_while_writing(tmp_path / "model.safetensors")
    (tmp_path / ".config.json.partial").write_text("of an earlier version")
    for folder in (".partial-checkpoint-3", ".partial-old-best", ".partial-old-checkpoint-2", "checkpoint-2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_text(folder)
    files.remove_partial(tmp_path)
    assert names(tmp_path) == ["best", "checkpoint-2", "model.safetensors"]
    assert (tmp_path / "best" / "a").read_text() == ".partial-old-best"
    assert (tmp_path / "checkpoint-2" / "a").read_text() == "checkpoint-2"


# Errors


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        ValueError("I/O operation on closed file"),
    ],
)
def test_errors_of_the_disk_all_have_one_message(error):
    """Breaks if a full disk ends in a traceback: torch, safetensors and the writer of datasets raise their own."""

    def fail():
        with files.writing("elsewhere"), files.writing("there", "Do this"):  # the first message is kept
            raise error

    with pytest.raises(
        OSError, match=r"^there cannot be written: .*\. Do this, then rerun the same command$"
    ) as raised:
        fail()
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error"), ValueError("row 2: 'I/O operation on closed file'"), OSError("already explained")],
)
def test_other_errors_pass_as_they_are(error):
    """Breaks if a bug or a bad row is blamed on the disk."""
    with pytest.raises(type(error)) as raised, files.writing("there"):
        raise error
    assert raised.value is error


def test_nothing_heavy_is_imported(repository):
    """Breaks if scripts that only write a file wait for torch."""
    program = "import sys, qa_accel.files; print({'torch', 'accelerate', 'datasets', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
