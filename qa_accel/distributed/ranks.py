"""A launch's variables -> this process's share of work that needs no process group.

Processes that only take pieces of work from a folder have nothing to say to each other. Without the launch's variables
accelerate treats each as a process alone, so that there is no collective that could wait for a dead one.
"""

import os
from dataclasses import dataclass

import torch

from qa_accel.distributed import precision, stop

LAUNCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OF_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""By these, too, accelerate takes a process for one of several; srun may set the first."""


@dataclass(frozen=True)
class Rank:
    number: int
    """Among all processes of the launch, and of all tasks of a Slurm array."""
    count: int
    on_this_host: int
    """Processes of the launch that share this host's cores."""
    speaks: bool
    """Whether it is the first of its launch, the one that writes to the console."""
    exit_code: int
    """With which it ends if it is stopped."""


def leave_launch() -> Rank:
    """This process's rank; the launch's variables are removed, and its own GPU is made the current one.

    Call before an Accelerator is made. Raises ValueError if variables are there that no launcher set.
    """
    number, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 and "LOCAL_RANK" not in os.environ:
        raise ValueError(
            f"WORLD_SIZE={count} is in the environment, but no launcher started this process (there is no LOCAL_RANK): "
            "unset WORLD_SIZE for a single process, or use `accelerate launch`"
        )
    local, on_this_host = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    exit_code = stop.exit_code()
    for name in (*LAUNCH, *OF_MPI):
        os.environ.pop(name, None)
    if not precision.on_cpu() and torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())
    task, tasks = _array_task()
    return Rank(task * count + number, tasks * count, on_this_host, number == 0, exit_code)


def _array_task() -> tuple[int, int]:
    """Place of this task in its Slurm array, and how many tasks it has; (0, 1) where there is none."""
    names = ("ID", "COUNT", "MIN", "STEP")
    id, count, first, step = (os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in names)
    if not (id.isdigit() and count.isdigit() and int(count)):
        return 0, 1
    place = (int(id) - int(first or 0)) // max(1, int(step or 1))
    return place % int(count), int(count)
