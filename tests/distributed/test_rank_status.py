"""A rank's last line is on the disk whatever happens to the rank, and nothing but lines of the run is in the folder."""

import os
import resource
import signal
from pathlib import Path

from accelerate import Accelerator
from processes import call

from qa_accel.distributed.rank_status import RankStatus


def lines(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.iterdir())]


def fail_to_write(folder: Path) -> None:
    """The second line cannot be written: the file system takes no byte."""
    status = RankStatus(folder, Accelerator(cpu=True))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
    status.failed(ValueError("no space"))
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)  # for what the test writes itself


def test_a_line_that_cannot_be_written_whole_leaves_the_one_before(tmp_path):
    """As for a rank that is stopped in the middle of a write. Breaks if the file is emptied first: nobody names that rank."""
    call(fail_to_write, tmp_path)
    [line] = lines(tmp_path / "ranks")
    assert line.startswith("rank 0 of 1 on ") and line.endswith(": running, before its first step\n")


def start(folder: Path) -> list[str]:
    status = RankStatus(folder, Accelerator(cpu=True))
    found = [path.name for path in status.folder.iterdir()]
    status.ended()
    return found


def test_leftovers_of_an_earlier_start_are_gone(tmp_path):
    (tmp_path / "ranks").mkdir()
    for name in ("rank-0.txt", "rank-7.txt", ".rank-7.txt.0123456789abcdef.partial"):
        (tmp_path / "ranks" / name).touch()
    assert call(start, tmp_path) == [["rank-0.txt"]]
    assert not (tmp_path / "ranks").exists()


def test_links_lead_to_no_file_of_the_user_who_trains(tmp_path):
    """Breaks if a link under a fixed name, as a member of a shared folder can make it, is written through or emptied."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "rank-0.txt").write_text("precious")
    (tmp_path / "ranks").symlink_to(other)
    assert call(start, tmp_path) == [["rank-0.txt"]]
    assert (other / "rank-0.txt").read_text() == "precious"
    (tmp_path / "ranks").mkdir()
    os.symlink(other / "rank-0.txt", tmp_path / "ranks" / "rank-0.txt")
    call(start, tmp_path)
    assert (other / "rank-0.txt").read_text() == "precious"
