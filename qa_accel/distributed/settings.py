"""The settings of processes: seeds, timeouts, and when a run stops."""

from dataclasses import dataclass
from typing import Literal

from qa_accel.distributed import signals
from qa_accel.ranges import COUNT, NATURAL, check_ranges


@dataclass(frozen=True)
class RuntimeConfig:
    seed: int = 42
    """Seed of the head's first weights, of dropout and of every epoch's order."""
    ddp_timeout: int = 1800
    """Seconds after which ranks stop waiting for another rank."""

    def __post_init__(self):
        check_ranges(self, seed=NATURAL, ddp_timeout=COUNT)


@dataclass(frozen=True)
class StopConfig:
    stop_signals: tuple[str, ...] = signals.STOP_SIGNALS
    """Signals on which a run saves and exits; leave out those that another library needs (e.g. NCCL: SIGUSR1)."""
    max_train_hours: float | None = None
    """Save and exit after this many hours, counted from this start; the same command continues the run."""

    def __post_init__(self):
        check_ranges(self, max_train_hours="(0, inf)")


@dataclass(frozen=True)
class GradientSumsConfig:
    ddp_comm_hook: Literal["no", "fp16", "bf16"] = "no"
    """Sum gradients over the ranks of DDP in this precision in place of fp32: half the bytes between GPUs, other last bits."""
