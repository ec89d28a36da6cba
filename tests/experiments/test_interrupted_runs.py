"""Runs that end with their worker: the launcher is a shell script that ends as a run does, Slurm's answers are a script's too."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sweep_folders import plan

from qa_accel.distributed import signals
from qa_accel.experiments import curve_runs, slurm_jobs, trials
from qa_accel.experiments.curve_runs import CurveRun
from qa_accel.experiments.worker import Worker

BEGUN = "touch begun; mkdir -p checkpoint-9\n"
SIGNALLED = 'kill -USR1 "$WORKER"; sleep 0.2; kill -USR1 $$'
"""Both get it, the worker first, and the run dies of it."""

Make = Callable[[str], Path]


@pytest.fixture
def listening(monkeypatch) -> Iterator[None]:
    """This process notes signals, as a worker's does, and forgets them at the end."""
    monkeypatch.setenv("WORKER", str(os.getpid()))
    signals.listen(["SIGUSR1"])
    yield
    signals.listen([])
    signals._received.clear()


@pytest.fixture
def launcher(tmp_path) -> Make:
    """The words of a launcher: a script which begins a checkpoint in the run's folder, and goes on as is given."""

    def make(program: str) -> Path:
        path = tmp_path / "launcher"
        # the words: training script, --config, recipe, --output_dir, folder
        path.write_text(f'#!/bin/sh\ncd "$5" || exit 9\n{BEGUN}{program}\n')
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Callable[[str], None]:
    """This process belongs to job 7, of which squeue gives the state."""

    def make(answer: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "squeue").write_text(f"#!/bin/sh\n{answer}\n")
        (folder / "squeue").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setenv("SLURM_JOB_ID", "7")

    return make


def worker(folder: Path, launcher: Path, count: int = 1) -> Worker:
    folder.mkdir(exist_ok=True)
    return Worker(folder, plan(count, launcher=(str(launcher),), confirm_seeds=0), lambda settings: None)


def assert_left_to_be_resumed(folder: Path) -> None:
    [trial] = trials.read_trials(folder)
    assert (trial.state, trial.reason, trial.ended) == ("running", None, None)
    assert (folder / "trial-0" / "checkpoint-9").is_dir()


def test_a_run_that_dies_of_its_workers_signal_keeps_its_trial_and_checkpoints(tmp_path, launcher, listening):
    """Breaks if the trial is closed as failed, its checkpoints are deleted, or it is started again after the signal."""
    assert not worker(tmp_path / "s", launcher(SIGNALLED), count=2).work()
    assert_left_to_be_resumed(tmp_path / "s")
    assert trials.read_trials(tmp_path / "s")[0].starts == 1


def test_a_learning_curve_is_stopped_by_such_a_signal_and_has_not_failed(tmp_path, launcher, listening):
    """Breaks if the command leaves with 2, as if the recipe were wrong."""
    run = CurveRun(1, 42, 8, 24, tmp_path / "recipe.yaml", tmp_path / "run")
    result = curve_runs.train(run, [str(launcher(SIGNALLED))])
    assert (result.state, result.reason) == ("stopped", "SIGUSR1")


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", "NODE_FAIL", "CANCELLED"])
def test_a_step_that_is_killed_with_its_job_keeps_its_trial(tmp_path, launcher, slurm, state):
    """Slurm ends the step first: 137 and no signal here. Breaks if the worker closes one trial after the other as failed, each
    time srun refuses a step."""
    slurm(f"echo '7 {state}'")
    assert not worker(tmp_path / "s", launcher("exit 137"), count=3).work()
    assert_left_to_be_resumed(tmp_path / "s")


@pytest.mark.parametrize("answer", ["echo '7 RUNNING'", "exit 1", "echo '8 COMPLETING'"])
def test_in_a_job_that_goes_on_a_failed_run_is_a_failed_trial(tmp_path, launcher, slurm, answer):
    """As where Slurm does not answer, or knows nothing of this job. Breaks if a wrong recipe is requeued for ever."""
    slurm(answer)
    assert worker(tmp_path / "s", launcher("echo 'error: no such data'; exit 2")).work()
    [trial] = trials.read_trials(tmp_path / "s")
    assert (trial.state, trial.reason) == ("failed", "exit code 2: error: no such data")


INTERRUPTED = (
    "srun: error: Node failure on n2",
    "srun: error: Unable to create step for job 7: Job/step already completing or completed",
    "srun: error: Unable to create step for job 7: Invalid job id specified",
    "1: slurmstepd: error: *** STEP 7.3 ON n1 CANCELLED AT 2030-01-02T03:04:05 DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***",
)
FAILED = (
    "srun: error: Unable to create step for job 7: Requested node configuration is not available",
    "srun: error: Unable to create step for job 7: More processors requested than permitted",
    "slurmstepd: error: *** STEP 7.3 ON n1 CANCELLED AT 2030-01-02T03:04:05 ***",  # --kill-on-bad-exit
    "srun: error: n1: task 0: Exited with exit code 2",
)


@pytest.mark.parametrize("line", [*INTERRUPTED, *FAILED])
def test_what_srun_says_of_a_lost_node_or_job_is_no_failure_of_the_trial(line):
    """Breaks if a dead node costs trials, or a step that can never be had is asked for at each requeue."""
    found = slurm_jobs.END_OF_A_STEP.search(f"0: step 3\n{line}\nmore\n")
    assert (found is not None) == (line in INTERRUPTED)
    assert found is None or "\n" not in found[0]


def test_a_run_that_srun_refuses_keeps_its_trial(tmp_path, launcher, slurm):
    """Breaks if the lines of the log are not read."""
    slurm("echo '7 RUNNING'")
    assert not worker(tmp_path / "s", launcher(f"echo '{INTERRUPTED[0]}' >&2; exit 1"), count=3).work()
    assert_left_to_be_resumed(tmp_path / "s")
