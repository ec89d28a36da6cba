"""What is planted in a run's folder neither leads the run to another file nor makes it wait; the message says what it is."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import run
from small_run import small_training

from qa_accel.distributed import entry, run_folder


def open_folder(folder: Path) -> None:
    entry.main(lambda: run_folder.open_run(str(folder), small_training()[0], overwrite=False) and None)


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "victim")


PLANTED: dict[str, Callable[[Path], None]] = {
    "link": link,
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "FIFO": os.mkfifo,
    "folder": Path.mkdir,
}


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
@pytest.mark.parametrize("kind", PLANTED)
def test_a_name_that_a_run_opens_must_be_a_plain_file(kind, name, tmp_path):
    """Breaks if a run follows it, waits for ever for somebody at the other end, or ends in a traceback."""
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    folder.mkdir()
    PLANTED[kind](folder / name)
    [left] = run(open_folder, folder, limit=60)
    assert left.code == 2, left.output
    assert f"{folder / name} is not a plain file, but a link, a folder or a FIFO; remove it" in left.output
    assert "Traceback" not in left.output
    assert victim.read_text() == "precious" and not (folder / "nowhere").exists()


def test_a_link_under_a_name_that_a_run_does_not_open_is_left_alone(tmp_path):
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    folder.mkdir()
    link(folder / ".writable")
    [left] = run(open_folder, folder)
    assert left.code == 0, left.output
    assert victim.read_text() == "precious"


ENTRIES = {
    "garbage": b"garbage",
    "no text": b"\xff\x00",
    "a list": b"[1, 2]",
    "deep": b"[" * 4096,
    "control characters": json.dumps({"pid": "\x1b[2J[/]", "host": "h" * 3000, "since": {"a": 1}}).encode(),
}


def refused_by_a_lock(folder: Path, content: bytes) -> None:
    """Another process holds the lock, whose entry is this."""
    (locked, tell), (over, until_over) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(until_over)
        run_folder.hold(folder)
        os.ftruncate(run_folder._held[folder / run_folder.LOCK], 0)
        os.pwrite(
            run_folder._held[folder / run_folder.LOCK], content, 0
        )  # closing another descriptor would free the lock
        os.write(tell, b"x")
        os.read(over, 1)  # until the other one has left
        os._exit(0)
    os.read(locked, 1)
    open_folder(folder)


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_damaged_entry_of_the_lock_is_shown_harmlessly(kind, tmp_path):
    """Breaks if the run that finds the folder taken ends in a traceback, or obeys what the entry holds."""
    [left] = run(refused_by_a_lock, tmp_path, ENTRIES[kind])
    assert left.code == 2 and "another run is writing" in left.output, left.output
    assert "\x1b[2J" not in left.output and "Traceback" not in left.output and len(left.output) < 1500
