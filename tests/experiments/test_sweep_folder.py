"""Workers in folders of sweeps that were left by hand as kills, damage and file servers leave them; no run is started."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep_folders import plan, trial, write_sweep

from qa_accel.distributed.claims import Claims
from qa_accel.experiments import trials, worker
from qa_accel.experiments.trials import SweepPlan
from qa_accel.experiments.worker import Worker


def worker_of(folder: Path, swept: SweepPlan, say: Callable[[str], None] = print) -> Worker:
    """Whose runs are all refused, so that none is started."""
    return Worker(folder, swept, lambda settings: "refused here", say)


def test_a_worker_deletes_what_a_killed_one_left_of_ended_trials(tmp_path):
    """Killed between the result and the deletion. Breaks if checkpoints fill the disk for ever, or if those of a trial that
    goes on, or the best model of a finished one, are deleted."""
    found = [trial(0, 70.0), trial(1, 60.0, "pruned"), trial(2, None, "running"), trial(3, 71.0)]
    folder = write_sweep(tmp_path / "s", plan(4, confirm_seeds=0), found)
    for number in range(4):
        for name in ("checkpoint-9", "best"):
            (trials.folder_of(folder, number) / name).mkdir()
    made = worker_of(folder, plan(4, confirm_seeds=0))
    for _ in range(2):
        made._delete_leftovers()
    left = [sorted(path.name for path in trials.folder_of(folder, number).iterdir()) for number in range(4)]
    assert left == [
        ["best", "trial.json"],
        ["trial.json"],
        ["best", "checkpoint-9", "trial.json"],
        ["best", "trial.json"],
    ]
    assert not {name for name in made.claims.held if name.startswith("trial")}


DAMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "evaluations of one": ({"evaluations": [[1]]}, "evaluations is"),
    "evaluations of texts": ({"evaluations": [["a", "b"]]}, "evaluations is"),
    "evaluations a number": ({"evaluations": 3}, "evaluations is"),
    "a job that is a list": ({"owner": {"job": ["7"]}}, "owner is"),
    "value a text": ({"value": "x"}, "value is"),
    "state a list": ({"state": ["finished"]}, "state is"),
    "began a text": ({"began": "x"}, "began is"),
    "another number": ({"number": 5}, "its number is 5, that of its folder 0"),
    "a setting too many": ({"more": 1}, "unexpected keyword argument 'more'"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_trial_is_one_message_with_its_file(name, tmp_path):
    """Breaks if it is a traceback, or a worker takes it for a trial."""
    change, message = DAMAGES[name]
    folder = write_sweep(tmp_path / "s", plan(2), [trial(0, None, "running")])
    path = folder / "trial-0" / "trial.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"trial\.json: is ") as error:
        worker_of(folder, plan(2)).work()
    assert str(path) in str(error.value) and message in str(error.value) and "delete the file" in str(error.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1" + 400 * "0"])
def test_a_value_to_compute_nothing_with_counts_as_none(value, tmp_path):
    """Breaks if NaN is the best, or an integer of 400 digits is a traceback."""
    folder = write_sweep(tmp_path / "s", plan(2), [trial(0, 71.0), trial(1, 70.0)])
    path = folder / "trial-0" / "trial.json"
    path.write_text(path.read_text().replace("71.0", value))
    assert [one.number for one in trials.best_first(trials.read_trials(folder))] == [1]


def test_a_trials_worker_outlives_the_damage_of_another_trial(tmp_path):
    """Six ended trials with high values, one of them damaged while ours runs. Breaks if the median is asked of all or none."""
    found = [trial(number, 90.0, evaluations=[[1, 90.0], [2, 90.0]]) for number in range(6)]
    folder = write_sweep(tmp_path / "s", plan(8), found)
    made = worker_of(folder, plan(8))
    (folder / "trial-3" / "trial.json").write_text("{")
    hopeless = made._why_pruned(trial(6, 10.0, "running", evaluations=[[1, 10.0], [2, 10.0]]))
    assert hopeless is not None and "the median of 5 other trials is 90.00" in hopeless


def test_a_confirmation_belongs_to_its_folder_whatever_the_ranking_is_now(tmp_path):
    """Trial 1 was the best and has one run in confirm-1; its file was deleted and it has failed since. Breaks if an open one is
    a traceback, or if the next best's run is written over that of trial 1."""
    swept = plan(2, confirm_seeds=1)
    folder = write_sweep(tmp_path / "s", swept, [trial(0, 70.0), trial(1, None, "failed")])
    again = trials.confirmation_folder(folder, 1, 1)
    again.mkdir(parents=True)
    trials.write_trial(again, trial(1, None, "running", confirms=1, seed=1))
    assert worker_of(folder, swept).work()
    found = [(str(path.relative_to(folder)), trials.read_trial(path)) for path in trials.confirmation_folders(folder)]
    assert [(name, one.confirms, one.state) for name, one in found] == [
        ("confirm-1/seed-1", 1, "failed"),
        ("confirm-2/seed-1", 0, "failed"),
    ]


def test_a_worker_leaves_when_locks_are_gone(tmp_path):
    """The descriptor of the claims becomes one that cannot be locked, as where a file server loses its locks. Breaks if the
    worker goes on, and trains what others train."""
    folder = write_sweep(tmp_path / "s", plan(3), [])
    made = worker_of(folder, plan(3))
    read_only = os.open(folder / "sweep.json", os.O_RDONLY)
    os.dup2(read_only, made.claims._descriptor)
    with pytest.raises(
        ValueError, match=r"has no locks, or refuses them now.* start the same command again once it works"
    ):
        made.work()
    assert trials.read_trials(folder) == []


def test_locks_that_are_gone_when_a_claim_is_given_back_are_noticed(tmp_path):
    """Breaks if it is an AssertionError, or the next claim is taken for one that others see."""
    claims = Claims(tmp_path)
    assert claims.take("a") and claims.are_locks
    os.close(claims._descriptor)
    claims.give_back("a")
    assert not claims.are_locks


def squeue(folder: Path, states: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers for job 9: one state after the other, the last one for ever."""
    folder.mkdir()
    (folder / "squeue").write_text(
        f'#!/bin/sh\necho x >>{folder}/calls\nset -- {states}\n[ $(wc -l <{folder}/calls) -gt 2 ] && shift\necho "9 $1"\n'
    )
    (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_worker_waits_for_a_job_that_ends_and_then_has_its_trial(tmp_path, monkeypatch):
    """Breaks if COMPLETING counts as a job that comes back, and the trial is left for ever."""
    monkeypatch.setattr(worker, "SECONDS_BETWEEN_ANSWERS", 0.05)
    folder = write_sweep(tmp_path / "s", plan(1), [trial(0, None, "running", owner={"job": "9"})])
    squeue(tmp_path / "bin", "COMPLETING CANCELLED", monkeypatch)
    assert worker_of(folder, plan(1)).work()
    assert trials.read_trials(folder)[0].state == "failed"


def test_a_worker_that_leaves_trials_to_their_jobs_says_what_to_do(tmp_path, monkeypatch):
    """Breaks if the user of a job that never comes back has no way out."""
    monkeypatch.setattr(worker, "SECONDS_FOR_ENDING_JOBS", 0.2)
    monkeypatch.setattr(worker, "SECONDS_BETWEEN_ANSWERS", 0.05)
    folder = write_sweep(tmp_path / "s", plan(1), [trial(0, None, "running", owner={"job": "9"})])
    squeue(tmp_path / "bin", "COMPLETING COMPLETING", monkeypatch)
    said: list[str] = []
    assert worker_of(folder, plan(1), said.append).work()
    assert "trials of 9. If these jobs do not come back, start the same command again" in said[0]
    assert trials.read_trials(folder)[0].state == "running"
