"""Numbers of Slurm jobs -> those that will go on: a requeued job comes back under its number."""

import os
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
    # without --jobs, which is an error for a job that is forgotten; -r: a line for each task, %A: its own number
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%A %T"]
    try:
        listed = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS_FOR_AN_ANSWER, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return set(jobs)
    states = dict(line.split(maxsplit=1) for line in listed.splitlines() if " " in line)
    return {job for job in jobs if job in states and states[job].strip() not in OVER}
