"""The tests' own launcher: what it starts it also ends, and what went wrong is seen."""

import os
import subprocess
import time
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from processes import call, run
from speed import scaled


def world() -> tuple[int, int, int]:
    state = PartialState(cpu=True)
    total = torch.tensor([state.process_index + 1])
    if state.num_processes > 1:
        torch.distributed.all_reduce(total)
    return state.process_index, state.num_processes, int(total)


def test_each_run_has_a_group_of_its_own():
    """1 + 2 + 3 = 6. Breaks if a run meets another one's state, which accelerate keeps once per process."""
    assert call(world, processes=3) == [(0, 3, 6), (1, 3, 6), (2, 3, 6)]
    assert call(world) == [(0, 1, 1)]


def hang(folder: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    (folder / str(sleeper.pid)).write_text("")
    print("still waiting", flush=True)
    time.sleep(1000)


def test_what_hangs_is_killed_with_its_children_and_shown(tmp_path):
    with pytest.raises(TimeoutError, match=r"2 processes were not done after \d+ s(.|\n)*still waiting"):
        run(hang, tmp_path, processes=2, limit=scaled(5))
    children = [int(path.name) for path in tmp_path.iterdir()]
    assert len(children) == 2
    for child in children:
        status = Path(f"/proc/{child}/status")
        assert not status.exists() or "zombie" in status.read_text()


def rank_1_dies() -> str:
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), 9)
    time.sleep(1000)
    return "never"


def test_a_death_ends_the_others():
    left = run(rank_1_dies, processes=2)
    assert [one.code for one in left] == [-9, -9]
    assert [one.value for one in left] == [None, None]


def divide(by: int) -> float:
    print("dividing")
    return 1 / by


def test_what_a_function_returns_prints_and_raises_comes_back():
    [left] = run(divide, 2)
    assert (left.code, left.value, left.output) == (0, 0.5, "dividing\n")
    [left] = run(divide, 0)
    assert (left.code, left.value) == (1, None)
    assert left.output.startswith("dividing") and "ZeroDivisionError" in left.output
    with pytest.raises(AssertionError, match=r"rank 0 left with 1(.|\n)*ZeroDivisionError"):
        call(divide, 0)
