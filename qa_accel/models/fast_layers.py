"""Layers that take the place of torch's own in a model: the same weights under the same names, less traffic.

Dropout: sixteen bits decide about an element, not a number of 32 or 64. With torch's own, drawing took a fifth of a training
step on a CPU, and a third of each compiled kernel that drops and normalises on an H100. The generators are torch's, so seeds
and checkpoints mean what they always mean.

Layer norm: under autocast its result is fp32, and is rounded to half precision only for the matrix products that read it.
Here what goes past these products to the next norm is rounded too: half of the bytes of every kernel between two products.
Sums and statistics stay in fp32.
"""

import torch
from torch import nn

VALUES = 1 << 16
"""Of sixteen bits."""


class FastDropout(nn.Dropout):
    """nn.Dropout with other draws of the same distribution; the rate is rounded to 1 / 65,536."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p) if self.training else input


class HalfLayerNorm(nn.LayerNorm):
    """nn.LayerNorm whose result has autocast's type, in training."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        normal, kind = super().forward(input), input.device.type
        half = self.training and torch.is_autocast_enabled(kind)
        return normal.to(torch.get_autocast_dtype(kind)) if half else normal


def replace(model: nn.Module, replacement: type[FastDropout | HalfLayerNorm]) -> None:
    """All modules of exactly the class that `replacement` is made from."""
    for module in model.modules():
        if type(module) is replacement.__base__:
            module.__class__ = replacement


def dropout(x: torch.Tensor, rate: float) -> torch.Tensor:
    """x with each element zero with probability `rate`, and else divided by 1 - rate."""
    dropped = round(rate * VALUES)
    if dropped == 0:
        return x
    if dropped == VALUES:
        return torch.zeros_like(x)
    words = torch.randint(-(1 << 63), (1 << 63) - 1, (-(-x.numel() // 4),), device=x.device)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)
    kept = (bits >= dropped - VALUES // 2).to(x.dtype)
    return x * kept.mul_(VALUES / (VALUES - dropped))
