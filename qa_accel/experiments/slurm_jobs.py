"""Numbers of Slurm jobs -> those that will go on: a requeued job comes back under its number. And whether Slurm ends our own."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection
from typing import Any

OVER = (
    "COMPLETED",
    "CANCELLED",
    "FAILED",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "OUT_OF_MEMORY",
    "DEADLINE",
    "BOOT_FAIL",
)
"""States in which squeue may still list a job that does not come back."""
GOES_ON = ("RUNNING", "RESIZING", "SIGNALING", "STOPPED", "SUSPENDED")
"""States in which a job's processes go on."""
END_OF_A_STEP = re.compile(
    r"srun: error: .*(Node failure"
    r"|(Unable to create step|step creation)(?!.*(not available|than permitted|Invalid generic resource))"
    r"|Job/step already completing).*"
    r"|slurmstepd: error: \*\*\* .* CANCELLED AT .* DUE TO (NODE FAILURE|TIME LIMIT|PREEMPTION|JOB REQUEUE).*",
    re.IGNORECASE,
)
"""What srun and slurmstepd write where it is not the step's own fault that it ended or did not begin. Not of a step that asks
for what the job does not have: it would never begin."""
SECONDS_FOR_AN_ANSWER = 30


def own_job() -> dict[str, Any]:
    """Number and array task of the job that this process belongs to; empty outside of Slurm."""
    if "SLURM_JOB_ID" not in os.environ:
        return {}
    return {"job": os.environ["SLURM_JOB_ID"], "array_task": os.environ.get("SLURM_ARRAY_TASK_ID")}


def alive(jobs: Collection[str]) -> set[str]:
    """Those of the jobs that are running, pending or requeued. All of them if Slurm does not answer, none where there is no Slurm."""
    if not jobs or shutil.which("squeue") is None:
        return set()
    states = _states()
    if states is None:
        return set(jobs)
    return {job for job in jobs if job in states and states[job] not in OVER}


def ending(jobs: Collection[str]) -> set[str]:
    """Those of the jobs that end just now: soon Slurm says whether they come back."""
    states = _states() if jobs and shutil.which("squeue") is not None else None
    return {job for job in jobs if (states or {}).get(job) == "COMPLETING"}


def own_end() -> str | None:
    """The state of the job that this process belongs to, if its processes are about to end; None if not, outside of Slurm, and
    if Slurm does not say."""
    job = own_job().get("job")
    if job is None or shutil.which("squeue") is None:
        return None
    state = (_states() or {}).get(job)
    return None if state in GOES_ON else state


def _states() -> dict[str, str] | None:
    """Number of each job that Slurm knows -> its state; None if it does not answer."""
    # without --jobs, which is an error for a job that is forgotten; -r: a line for each task, %A: its own number
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%A %T"]
    try:
        listed = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS_FOR_AN_ANSWER, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.split() for line in listed.splitlines())
    return {words[0]: words[1] for words in lines if len(words) > 1}
