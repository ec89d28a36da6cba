"""A command and all that it has started die with the process that started it, and with nothing else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from speed import scaled

from qa_accel.experiments import leash

TREE = "echo $$ > $0/first; setsid sh -c 'echo $$ > $0/second; exec sleep 300' $0 & wait"
"""A process, and one that it has put into a session of its own, as torch's launcher does with its workers."""
PARENT = """
import sys
from qa_accel.experiments import leash
with open(sys.argv[1] + "/log", "ab") as log, leash.started(["sh", "-c", sys.argv[2], sys.argv[1]], log) as child:
    child.wait()
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, what: str) -> None:
    end = time.monotonic() + scaled(20)
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def written(path: Path) -> int:
    wait_for(lambda: path.exists() and path.read_text().strip(), path.name)
    return int(path.read_text())


def test_the_whole_tree_is_gone_after_a_kill_of_the_parent(tmp_path):
    """Breaks if only the direct child is killed: an orphan would train on, and its successor would wait for it."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), TREE])
    pids = [written(tmp_path / name) for name in ("first", "second")]
    assert all(map(is_alive, pids))
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(is_alive, pids)), "the tree is still there")


def test_signals_to_its_group_are_not_the_childs(tmp_path):
    """Ctrl-C goes to a terminal's whole group, and Slurm signals a whole job. Breaks if a run dies of it before it has saved."""
    with (tmp_path / "log").open("wb") as log, leash.started(["sh", "-c", TREE, str(tmp_path)], log) as child:
        pid = written(tmp_path / "second")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(child.pid, number)
        assert os.getpgid(child.pid) != os.getpgid(0)
        time.sleep(0.2)
        assert child.poll() is None and is_alive(pid)
    assert not is_alive(pid)


def test_exit_codes_and_output_come_through(tmp_path):
    """Breaks if a signal's end cannot be told from an error's, or the command hears fewer signals than it would."""
    commands = {"exit 3": 3, "kill -9 $$": 137, "kill -TERM $$": 143, "echo said; echo wrong >&2": 0}
    for command, code in commands.items():
        with (tmp_path / "log").open("ab") as log, leash.started(["sh", "-c", command], log) as child:
            assert child.wait() == code
    assert (tmp_path / "log").read_text() == "said\nwrong\n"
    with (tmp_path / "log").open("ab") as log, leash.started(["/no/such/program"], log) as child:
        assert child.wait() == 127
    assert "error: /no/such/program cannot be started: No such file or directory" in (tmp_path / "log").read_text()
