"""What the launcher started -> one `Accelerator`, with its console, seeds and order of ranks at a cache."""

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, set_seed
from rich.console import Console
from rich.markup import escape

from qa_accel.distributed import strategy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RuntimeConfig:
    seed: int = 42
    """Seed of the head's first weights, of dropout and of every epoch's order."""
    ddp_timeout: int = 1800
    """Seconds after which ranks that wait for another one give up."""


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX); without that it is slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def bfloat16_is_fast() -> bool:
    """Whether the device that this process gets, or the CPU, multiplies bfloat16 in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not torch.accelerator.is_available() and cpu_has_bfloat16()


def make_accelerator(
    config: RuntimeConfig,
    *,
    gradient_accumulation_steps: int = 1,
    find_unused_parameters: bool = False,
    bfloat16_where_fast: bool = False,
    training: bool = False,
    **options: Any,
) -> Accelerator:
    """An Accelerator over every process that the launcher started. Raises ValueError where it would see fewer.

    accelerate takes strategy and precision from the launch. Started without a launcher there is one process; its
    precision is fp32, or bf16 where `bfloat16_where_fast` and the device has it (ACCELERATE_MIXED_PRECISION=no forbids it).
    `training`: FSDP or DeepSpeed, where the launch asks for it, splits the training state; else each process has all.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and "LOCAL_RANK" not in os.environ:
        raise ValueError(
            f"WORLD_SIZE={launched} is in the environment, but no launcher started this process (there is no LOCAL_RANK): it "
            "would wait for others that nobody started. Unset WORLD_SIZE for a single process, or use `accelerate launch`"
        )
    has_device = torch.accelerator.is_available()
    group: dict[str, Any] = {"timeout": timedelta(seconds=config.ddp_timeout)}
    if training:
        strategy.check_launch()
    else:
        strategy.forget_launched()
    if not has_device:
        for chosen, needed in zip((options, group), strategy.options_without_device()):
            chosen.update(needed)
    if bfloat16_where_fast and "ACCELERATE_MIXED_PRECISION" not in os.environ and bfloat16_is_fast():
        options = {"mixed_precision": "bf16"} | options
    handlers: list[Any] = [InitProcessGroupKwargs(**group)]
    handlers.append(
        DistributedDataParallelKwargs(
            find_unused_parameters=find_unused_parameters,
            gradient_as_bucket_view=True,  # else DDP keeps a second copy of all gradients
        )
    )
    with _alone(launched):
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
    if strategy.precision(accelerator) == "bf16" and not has_device and not cpu_has_bfloat16():
        logger.warning("bf16 on a CPU without AVX512-BF16 or AMX is slower than fp32: launch with --mixed_precision no")
    return accelerator


@contextmanager
def _alone(launched: int):
    """Let accelerate see a single process as one, though a launcher for many (torchrun, several nodes) started it.

    It would wrap the model in DDP, which copies gradients for nobody and rules out CUDA graphs.
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
    """Where rank 0 speaks; silent on the others."""
    return Console(quiet=not accelerator.is_main_process, soft_wrap=True)


def announce(console: Console, **facts: str) -> None:
    """One aligned line per fact, at the start of a run."""
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(f"[bold]{name.replace('_', ' '):<{width}}[/]  {escape(value)}", highlight=False)


def describe(accelerator: Accelerator) -> str:
    """One line on what runs where, for the console and the model card."""
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else accelerator.device.type.upper()
    processes = f"{accelerator.num_processes} process{'es' if accelerator.num_processes > 1 else ''}"
    precision = {"no": "fp32"}.get(strategy.precision(accelerator), strategy.precision(accelerator))
    return f"{processes} on {device}, {strategy.name(accelerator)}, {precision}, torch {torch.__version__}"


def seed_everything(seed: int, accelerator: Accelerator | None = None) -> None:
    """The same seed on every rank (first weights), or with an accelerator one per rank (dropout)."""
    set_seed(seed, device_specific=accelerator is not None)


@contextmanager
def first_on_each_cache(accelerator: Accelerator):
    """Rank 0 of the job first, then rank 0 of each node, then the rest: a cache is filled once, node-local or shared."""
    with accelerator.main_process_first(), accelerator.local_main_process_first():
        yield
