"""Model -> AdamW with decay where it belongs; whole run's optimizer steps -> learning rate schedule."""

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from qa_accel.models import architectures
from qa_accel.training.part_settings import OptimConfig


def parameter_groups(model: nn.Module, weight_decay: float, layerwise_lr_decay: float = 1.0) -> list[dict[str, Any]]:
    """Two groups, with and without decay; with layer-wise rates two for each depth, the head's first.

    By name, not by shape: shapes are empty under ZeRO-3.
    """
    plain = {
        f"{module_name}.{name}" if module_name else name
        for module_name, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if name == "bias" or name.endswith("_bias") or "norm" in type(module).__name__.lower()
    }
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    # d layers below the head the rate is multiplied by decay^d (ULMFiT, arXiv:1801.06146, section 3.2)
    depth = architectures.depths(model) if layerwise_lr_decay < 1 else dict.fromkeys(dict(trained), 0)  # type: ignore[arg-type]
    top = max(depth.values())
    groups = []
    for level in sorted(set(depth.values()), reverse=True):
        here = [(name, parameter) for name, parameter in trained if depth[name] == level]
        rate = {"lr_factor": layerwise_lr_decay ** (top - level)}
        with_decay = [parameter for name, parameter in here if name not in plain]
        without = [parameter for name, parameter in here if name in plain]
        groups += [{"params": with_decay, "weight_decay": weight_decay, **rate}]
        groups += [{"params": without, "weight_decay": 0.0, **rate}]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay, config.layerwise_lr_decay),
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,  # one kernel for all parameters; torch has it for CUDA and for the CPU
    )


def warmup_steps(config: OptimConfig, total_steps: int) -> int:
    """Optimizer steps of warm-up in a run of `total_steps`."""
    if config.num_warmup_steps is not None:
        return config.num_warmup_steps
    return round(config.warmup_ratio * total_steps)


def make_schedule(optimizer: Any, config: OptimConfig, total_steps: int, done: int = 0) -> LambdaLR:
    """The learning rate as a function of the optimizer step, set to its state after `done` of `total_steps`.

    Step it once per optimizer step on every rank; accelerator.prepare would step it once per rank. `optimizer` may be
    wrapped: the schedule is bound to the innermost one, whose learning rate is the one applied.
    """
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    for group in optimizer.param_groups:
        # the schedule multiplies this; a restored optimizer may hold another
        group["initial_lr"] = config.learning_rate * group.get("lr_factor", 1.0)
    warmup, last_epoch = warmup_steps(config, total_steps), done - 1
    if config.lr_scheduler_type == "constant":
        return get_constant_schedule_with_warmup(optimizer, warmup, last_epoch=last_epoch)
    make = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}
    return make[config.lr_scheduler_type](optimizer, warmup, total_steps, last_epoch=last_epoch)
