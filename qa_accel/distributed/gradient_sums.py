"""DDP's sums of gradients: over the wire in fp32, or in half precision with half the bytes.

Each rank rounds its own gradients and divides them by the number of ranks; sums are rounded again as they pass from rank to
rank. Weights, clipping and AdamW stay in fp32. The hooks are those of torch.distributed.algorithms.ddp_comm_hooks.
"""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from qa_accel.distributed import strategy
from qa_accel.distributed.embedding_sums import EmbeddingSums, leave_out
from qa_accel.distributed.settings import GradientSumsConfig


def check(config: GradientSumsConfig, accelerator: Accelerator) -> str | None:
    """A warning where the setting does nothing: one process. Raises ValueError under a strategy that sums in its own way."""
    if config.ddp_comm_hook == "no":
        return None
    if strategy.splits_training(accelerator):
        raise ValueError(
            f"--ddp_comm_hook {config.ddp_comm_hook} is for DDP, {strategy.name(accelerator)} sums gradients in its own way: leave "
            "it out, or launch with accelerate_configs/multi_gpu.yaml"
        )
    if accelerator.distributed_type == DistributedType.NO:
        return f"--ddp_comm_hook {config.ddp_comm_hook} does nothing here: one process has no gradients to sum"
    return None


def prepare(
    accelerator: Accelerator,
    model: Any,
    optimizer: torch.optim.Optimizer,
    config: GradientSumsConfig,
    timeout: int,
) -> tuple[torch.nn.Module, Any, EmbeddingSums | None]:
    """accelerator.prepare, with gradients summed as training sums them: the model and the optimizer as it returns them, and for
    OptimizerStep the sums of what DDP leaves out. All ranks must call. `timeout`: seconds to wait for another rank."""
    words = leave_out(accelerator, model)
    model, optimizer = accelerator.prepare(model, optimizer)
    compress(config, model)
    return model, optimizer, None if words is None else EmbeddingSums(words, accelerator, config, timeout)


def compress(config: GradientSumsConfig, prepared_model: torch.nn.Module) -> None:
    """Register the hook with a model that accelerator.prepare returned, before its first backward pass."""
    if config.ddp_comm_hook != "no" and isinstance(prepared_model, DistributedDataParallel):
        prepared_model.register_comm_hook(None, {"fp16": in_fp16, "bf16": in_bf16}[config.ddp_comm_hook])


def in_fp16(group: Any, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    return default_hooks.fp16_compress_hook(group, bucket)


def in_bf16(group: Any, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    # by another name than the hook's: DDP refuses that name over gloo, which sums bf16 too
    return default_hooks.bf16_compress_hook(group, bucket)
