"""Launched processes -> one `Accelerator`; console, seeds, and the order in which ranks fill a cache."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object, set_seed
from rich.console import Console
from rich.text import Text

from qa_accel.distributed import allocator, precision, stop, strategy
from qa_accel.distributed.settings import RuntimeConfig
from qa_accel.terminal import make_console, visible


def make_accelerator(
    config: RuntimeConfig,
    *,
    gradient_accumulation_steps: int = 1,
    find_unused_parameters: bool = False,
    bfloat16_where_fast: bool = False,
    training: bool = False,
    **options: Any,
) -> Accelerator:
    """An Accelerator over every process that the launcher started. Raises ValueError if it would see fewer, and for bf16
    on a CPU without hardware for it.

    accelerate takes strategy and precision from the launch. If neither launch nor environment names a precision, it is
    fp32, or bf16 if `bfloat16_where_fast` is set and the device supports it (ACCELERATE_MIXED_PRECISION=no forbids it).
    `training`: split the training state if the launch requests FSDP or DeepSpeed, else each process holds all of it; on a CPU
    the process keeps the memory that a step frees.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and "LOCAL_RANK" not in os.environ:
        raise ValueError(
            f"WORLD_SIZE={launched} is in the environment, but no launcher started this process (there is no LOCAL_RANK): it "
            "would wait for others that nobody started. Unset WORLD_SIZE for a single process, or use `accelerate launch`"
        )
    has_device = torch.accelerator.is_available()
    if training and not has_device:
        allocator.keep_memory()
    group: dict[str, Any] = {"timeout": timedelta(seconds=config.ddp_timeout)}
    if training:
        strategy.check_launch()
    else:
        strategy.ignore_launched_strategy()
    if not has_device:
        for chosen, needed in zip((options, group), strategy.options_without_device()):
            chosen.update(needed)
    chosen = precision.of_training() if bfloat16_where_fast else None
    if chosen is not None:
        options = {"mixed_precision": chosen} | options
    # its successor, of torch 2.13, is no option of accelerate
    warnings.filterwarnings("ignore", r"`broadcast_buffers` is deprecated", FutureWarning)
    handlers: list[Any] = [InitProcessGroupKwargs(**group)]
    handlers.append(
        DistributedDataParallelKwargs(
            find_unused_parameters=find_unused_parameters,
            gradient_as_bucket_view=True,  # else DDP keeps a second copy of all gradients
            # else each forward pass waits for rank 0's position numbers; of all models only I-BERT has buffers that training
            # changes, and reads them with quant_mode alone, where each rank then has ranges of its own
            broadcast_buffers=False,
        )
    )
    with _hide_launcher(launched):
        accelerator = Accelerator(
            gradient_accumulation_steps=gradient_accumulation_steps,
            step_scheduler_with_optimizer=False,
            kwargs_handlers=handlers,
            **options,
        )
    if launched != accelerator.num_processes:
        raise ValueError(
            f"the launcher started {launched} processes (WORLD_SIZE), but accelerate sees {accelerator.num_processes} "
            f"({accelerator.distributed_type}): each would train alone and write the same files. Launch with a file of "
            "accelerate_configs/, or unset WORLD_SIZE, RANK and LOCAL_RANK for a single process"
        )
    strategy.set_up(accelerator, gradient_accumulation_steps)
    precision.check(strategy.precision(accelerator))
    if launched > 1 and not has_device:
        _check_same_precision(accelerator)
    return accelerator


def _check_same_precision(accelerator: Accelerator) -> None:
    """All ranks must call. Raises ValueError if hosts with different CPUs chose different precisions."""
    chosen: list[str] = gather_object([strategy.precision(accelerator)])
    if len(set(chosen)) > 1:
        without = ", ".join(str(rank) for rank, name in enumerate(chosen) if name == "no")
        raise ValueError(
            f"the CPUs of some processes multiply bf16, those of ranks {without} do not: launch with --mixed_precision no"
        )


@contextmanager
def _hide_launcher(launched: int):
    """Let accelerate treat a single process as one, although a launcher for many (torchrun, several nodes) started it.

    It would wrap the model in DDP, which copies gradients without need and rules out CUDA graphs.
    """
    hidden = None
    if launched == 1 and not any(map(strategy.launched, strategy.LAUNCHED)):
        hidden = os.environ.pop("LOCAL_RANK", None)
    try:
        yield
    finally:
        if hidden is not None:
            os.environ["LOCAL_RANK"] = hidden


def forget_accelerator() -> None:
    """Let the next Accelerator of this process choose another precision; for one process only."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def console(accelerator: Accelerator) -> Console:
    """Console of rank 0; silent on the others."""
    return make_console(quiet=not accelerator.is_main_process, soft_wrap=True)


def announce(console: Console, **facts: str) -> None:
    """One aligned line per fact, at the start of a run."""
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(Text.assemble((f"{name.replace('_', ' '):<{width}}", "bold"), "  ", visible(value)))


def describe(accelerator: Accelerator, *, bfloat16_where_fast: bool = False) -> str:
    """One line on what runs where, for the console and the model card; `bfloat16_where_fast`: as given to make_accelerator."""
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else accelerator.device.type.upper()
    processes = f"{accelerator.num_processes} process{'es' if accelerator.num_processes > 1 else ''}"
    products = {"no": "fp32"}.get(strategy.precision(accelerator), strategy.precision(accelerator))
    if bfloat16_where_fast and accelerator.device.type == "cpu" and precision.of_training() == "no":
        products += " (this CPU has no bf16 units)"
    return ", ".join(
        filter(None, [f"{processes} on {device}", strategy.name(accelerator), products, f"torch {torch.__version__}"])
    )


def faster_launch(accelerator: Accelerator, batch_size: int) -> str | None:
    """The launch line that trains with a process per core instead of one with threads, on the same number of windows per
    step; None if this is not one process on several cores of a CPU, or if a launcher started it."""
    threads = torch.get_num_threads()
    if accelerator.device.type != "cpu" or stop.launched() or threads == 1:
        return None
    processes = max(count for count in range(1, threads + 1) if batch_size % count == 0)
    if processes == 1:
        return None
    return (
        f"accelerate launch --config_file accelerate_configs/cpu_ddp.yaml --num_processes {processes} {sys.argv[0]} "
        f"--per_device_train_batch_size {batch_size // processes}"
    )


SHIPPED = (
    *("cpu", "cpu_ddp", "single_gpu", "multi_gpu", "multi_node", "fsdp2"),
    *("deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3", "deepspeed_zero3_offload"),
)
"""Files of accelerate_configs/."""


def launch_line(accelerator: Accelerator) -> str:
    """What starts such processes again, in the same precision, up to the script's name."""
    on_cuda = accelerator.device.type == "cuda"
    configs = {"": "single_gpu" if on_cuda else "cpu", "DDP": "multi_gpu" if on_cuda else "cpu_ddp"}
    strategy_name = strategy.name(accelerator)
    file = configs.get(strategy_name) or (
        strategy_name.lower().replace(" with ", "_").replace(" zero-", "_zero")  # deepspeed_zero3_offload, fsdp2
    )
    machines = accelerator.num_processes // int(os.environ.get("LOCAL_WORLD_SIZE") or accelerator.num_processes)
    if machines > 1 and file == "multi_gpu":
        file = "multi_node"
    return " ".join(
        [
            "accelerate launch",
            *([f"--config_file accelerate_configs/{file}.yaml"] if file in SHIPPED else []),
            *([f"--num_machines {machines}"] if machines > 1 else []),
            f"--num_processes {accelerator.num_processes} --mixed_precision {strategy.precision(accelerator)}",
        ]
    )


def seed_everything(seed: int, accelerator: Accelerator | None = None) -> None:
    """The same seed on every rank (first weights), or with an accelerator one per rank (dropout)."""
    set_seed(seed, device_specific=accelerator is not None)


@contextmanager
def first_on_each_cache(accelerator: Accelerator) -> Iterator[bool]:
    """Rank 0 of the job first, then rank 0 of each node, then the rest: a cache is filled once, node-local or shared.

    Gives whether this process is its node's first, which is the one to check the cache.
    """
    with accelerator.main_process_first(), accelerator.local_main_process_first():
        yield accelerator.is_local_main_process
