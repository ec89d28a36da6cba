"""Replacements for torch's dropout and layer norm: the same weights under the same names, less memory traffic.

Dropout: 16 random bits decide about an element, instead of a number of 32 or 64 bits. torch's own random numbers take a fifth
of a training step on a CPU, and a third of each compiled kernel that drops and normalises on an H100. On a CPU torch's generator
gives only the seed of each tensor's bits, and NumPy's SFC64 draws them, in 0.4 of the time. So seeds and checkpoints keep their
meaning.

Layer norm: under autocast torch's result is fp32 and is rounded to half precision only for the matrix products. HalfLayerNorm
also rounds what bypasses these products on the way to the next norm, which halves the bytes of every kernel between two
products. Sums and statistics stay in fp32.
"""

import numpy as np
import torch
from torch import nn

VALUES = 1 << 16
"""Number of values of 16 bits."""


class FastDropout(nn.Dropout):
    """nn.Dropout with other draws from the same distribution; the rate is rounded to a multiple of 1 / 65,536."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p) if self.training else input


class HalfLayerNorm(nn.LayerNorm):
    """nn.LayerNorm whose result has autocast's dtype during training."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        normal, device_type = super().forward(input), input.device.type
        half = self.training and torch.is_autocast_enabled(device_type)
        return normal.to(torch.get_autocast_dtype(device_type)) if half else normal


def replace(model: nn.Module, replacement: type[FastDropout | HalfLayerNorm]) -> None:
    """Changes the class of all modules whose class is exactly the base class of `replacement`."""
    for module in model.modules():
        if type(module) is replacement.__base__:
            module.__class__ = replacement


def dropout(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Sets each element of x to zero with probability `rate` and divides the others by 1 - rate."""
    dropped = round(rate * VALUES)
    if dropped == 0:
        return x
    if dropped == VALUES:
        return torch.zeros_like(x)
    bits = random_words(x.numel(), x.device).view(torch.int16)[: x.numel()].view(x.shape)
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        kept = torch.ge(
            bits, dropped - VALUES // 2, out=torch.empty_like(x, requires_grad=False)
        )  # one pass instead of two
    else:
        kept = (bits >= dropped - VALUES // 2).to(x.dtype)
    return x * kept.mul_(VALUES / (VALUES - dropped))


def random_words(values: int, device: torch.device | None = None) -> torch.Tensor:
    """int64 that hold at least so many random values of 16 bits."""
    words = -(-values // 4)
    on_cpu = device is None or device.type == "cpu"
    if not on_cpu or torch.compiler.is_compiling():
        return torch.randint(-(1 << 63), (1 << 63) - 1, (words,), device=device)
    seed = int(torch.randint(1 << 62, (), device="cpu"))
    return torch.from_numpy(np.random.SFC64(seed).random_raw(max(1, words)).view(np.int64))
