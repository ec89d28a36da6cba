"""What slurm/jobs.sh decides without a Slurm; with one: tests/slurm/."""

import subprocess
from pathlib import Path

import pytest
from speed import scaled

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for path in (REPOSITORY / "slurm").iterdir() if path.suffix != ".md")


def shell(command: str, *words: object) -> list[str]:
    """Lines that a command prints to which the functions are known."""
    line = ["bash", "-c", f"source slurm/jobs.sh; {command}", "shell", *map(str, words)]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=scaled(60))
    assert done.stderr == "", done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_bash(script):
    """Breaks if one was left half edited; what runs them is Slurm, far from here."""
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_crashes_are_counted_until_there_is_a_new_checkpoint(tmp_path):
    """Breaks if a run that makes progress is given up, or one that crashes at one place for ever is not."""
    command = 'count_crash "$1"; count_crash "$1"; mkdir "$1/checkpoint-9"; count_crash "$1"; count_crash "$1"; '
    command += 'mkdir "$1/checkpoint-10"; count_crash "$1"'
    assert shell(command, tmp_path) == ["1", "2", "1", "2", "1"]


def test_a_run_s_folder_is_ours_only_if_this_job_holds_its_lock(tmp_path):
    """Breaks if job 12 takes job 123's folder for its own, and requeues because that one crashed."""
    (tmp_path / ".lock").write_text('{"pid": 1, "host": "a", "since": "b", "slurm_job": "123"}')
    command = 'for SLURM_JOB_ID in 12 123 23; do is_ours "$1" && echo "$SLURM_JOB_ID"; done'
    assert shell(command, tmp_path) == ["123"]
