"""What `squeue` says of a job, by a squeue of our own; with a real one: tests/slurm."""

from pathlib import Path

import pytest

from qa_accel.experiments import slurm_jobs


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    def make(program: str) -> None:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "squeue").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


def test_jobs_that_come_back_are_alive_and_others_are_not(squeue):
    """7 is not listed any more. Breaks if a requeued job's trial is taken from it, or a dead job's is left for ever."""
    squeue("printf '1 RUNNING\\n2 PENDING\\n3 COMPLETING\\n4 FAILED\\n5 REQUEUED\\n6 NODE_FAIL\\n'")
    assert slurm_jobs.alive({"1", "2", "3", "4", "5", "6", "7"}) == {"1", "2", "3", "5"}


def test_if_slurm_does_not_answer_all_are_alive(squeue):
    """Breaks if a controller that restarts costs every job its trial."""
    squeue("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert slurm_jobs.alive({"1"}) == {"1"}


def test_without_slurm_no_job_is(monkeypatch):
    monkeypatch.setenv("PATH", str(Path("/nowhere")))
    assert slurm_jobs.alive({"1"}) == set()
