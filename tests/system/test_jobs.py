"""What slurm/jobs.sh decides without a Slurm; with one: tests/slurm/."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from speed import scaled

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for path in (REPOSITORY / "slurm").iterdir() if path.suffix != ".md")


def shell(command: str, *words: object) -> list[str]:
    """Lines that a command prints to which the functions are known."""
    line = ["bash", "-c", f"source slurm/jobs.sh; {command}", "shell", *map(str, words)]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(line, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=scaled(60))
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


DAMAGED = {
    "a command": "none x[$(touch {victim})]",
    "a command as a name": "none {victim}[$(touch {victim})]",
    "a variable": "none SLURM_JOB_ID",
    "octal": "none 010",
    "no octal": "none 09",
    "negative": "none -5",
    "too large for the shell": "none 99999999999999999999",
    "three words": "none 1 2",
    "nothing": "",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_count_of_crashes_is_none_and_runs_nothing(kind, tmp_path):
    """bash evaluates names and commands in $((...)). Breaks if those who may write in the folder run code in the job."""
    (tmp_path / "crashes.txt").write_text(DAMAGED[kind].format(victim=tmp_path / "ran") + "\n")
    assert shell('count_crash "$1"; count_crash "$1"', tmp_path) == ["1", "2"]
    assert [path.name for path in tmp_path.iterdir()] == ["crashes.txt"]
    assert (tmp_path / "crashes.txt").read_text() == "none 2\n"


def test_crashes_are_not_counted_through_a_link_nor_a_fifo(tmp_path):
    """Breaks if a link that somebody planted empties another file, or the job waits for ever."""
    (tmp_path / "run").mkdir()
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run" / "crashes.txt").symlink_to(tmp_path / "victim")
    assert shell('count_crash "$1"', tmp_path / "run") == ["1"]
    assert (tmp_path / "victim").read_text() == "precious"
    (tmp_path / "run" / "crashes.txt").unlink()
    os.mkfifo(tmp_path / "run" / "crashes.txt")
    assert shell('count_crash "$1"; count_crash "$1"', tmp_path / "run") == ["1", "2"]


def test_only_checkpoints_count_as_progress(tmp_path):
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-11 12", "checkpoint-x\nnone 7"):
        (tmp_path / name).mkdir()
    assert shell('count_crash "$1"; count_crash "$1"', tmp_path) == ["1", "2"]
    assert (tmp_path / "crashes.txt").read_text() == "checkpoint-10 2\n"


NAMES = [
    "-dash",
    "--help",
    "line\n",
    "two\n\n",
    "in\nside",
    "a b",
    "$(touch ran)",
    "`touch ran`",
    "[x]*",
    "~",
    "/x\n",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_folder_is_found_as_it_is(name):
    """Breaks if it loses its last line breaks, or is taken for an option of grep, find or sort."""
    [line] = shell(
        'output_folder --output_dir="$1" && python -c "import sys; print(ascii(sys.argv[1]))" "$REPLY"', name
    )
    assert line == ascii(name if name.startswith("/") else f"./{name}")


def test_an_empty_name_of_a_folder_is_refused():
    message, code = shell('output_folder --output_dir= 2>&1 || echo "code $?"')
    assert message.startswith("--output_dir is empty") and code == "code 2"


def test_a_name_of_a_folder_that_is_not_utf8_is_refused():
    message, code = shell('output_folder --output_dir="$1" 2>&1 || echo "code $?"', "\udcff")
    assert message.startswith("--output_dir \\udcff: is not UTF-8") and code == "code 2"


CRASH = r"""
cd "$1"
setting() { printf "%s\n" "$name"; }
launch() { mkdir -p "$at/ranks"; echo '{"slurm_job": "12"}' >"$at/.lock"; printf 'step 3 \033[2J\n' >"$at/ranks/rank-0.txt"; return 1; }
requeue() { echo requeued; }
export SLURM_JOB_ID=12 SLURM_JOB_NODELIST=a SLURM_JOB_END_TIME=1 PREFLIGHT=no
for name in -dash $'line\n' "a b"; do
    at=./$name
    train
    echo "code $?"
done
"""


def test_a_crash_in_a_folder_of_any_name_is_counted_and_requeued(tmp_path):
    """Breaks if the folder's name is taken for an option: such a run was never requeued."""
    lines = shell(CRASH, tmp_path)
    assert lines.count("requeued") == 3 and lines.count("code 1") == 3, lines
    assert lines.count("step 3 ?[2J") == 3, "a log hands no control characters to the terminal"
    assert all((tmp_path / name / "crashes.txt").read_text() == "none 1\n" for name in ("-dash", "line\n", "a b"))


def test_a_fifo_among_the_lines_of_the_ranks_does_not_hang_the_job(tmp_path):
    (tmp_path / "ranks").mkdir()
    os.mkfifo(tmp_path / "ranks" / "rank-0.txt")
    (tmp_path / "ranks" / "rank-1.txt").write_text("here\n")
    os.mkfifo(tmp_path / ".lock")
    assert shell('rank_lines "$1"; is_ours "$1" || echo "not ours"', tmp_path) == ["here", "not ours"]


def test_a_run_s_folder_is_ours_only_if_this_job_holds_its_lock(tmp_path):
    """Breaks if job 12 takes job 123's folder for its own, and requeues because that one crashed."""
    (tmp_path / ".lock").write_text('{"pid": 1, "host": "a", "since": "b", "slurm_job": "123"}')
    command = 'for SLURM_JOB_ID in 12 123 23; do is_ours "$1" && echo "$SLURM_JOB_ID"; done'
    assert shell(command, tmp_path) == ["123"]


def test_a_sweeps_worker_gets_the_jobs_term_and_ends_before_the_job(tmp_path):
    """A worker of ours, which needs a second to save. Breaks if TERM ends at the script: the worker then takes the end of its step
    for a failed trial; or if the script ends first, or hands a job back that Slurm ends."""
    (tmp_path / "python").write_text(
        "#!/bin/bash\ntrap 'echo saves; sleep 1; echo saved; exit 75' TERM\necho begun >\"$0.begun\"\n"
        "while :; do sleep 0.1; done\n"
    )
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho handed back\n")
    for name in ("python", "scontrol"):
        (tmp_path / name).chmod(0o755)
    line = f"source slurm/jobs.sh; PATH={tmp_path}:/usr/bin:/bin; sweep --trials 3; echo code $?"
    environment = os.environ | {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "9999999999"}
    job = subprocess.Popen(
        ["bash", "-c", line],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + scaled(30)
        while not (tmp_path / "python.begun").exists() and time.monotonic() < end:
            time.sleep(0.02)
        job.terminate()
        output = job.communicate(timeout=scaled(10))[0].splitlines()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    assert output[:2] == ["saves", "saved"] and output[-1] == "code 75"
    assert "Slurm ends this job: not requeued from here" in output[2] and len(output) == 4
