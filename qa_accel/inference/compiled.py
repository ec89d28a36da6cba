"""A model of torch -> the same, compiled for inference on its device, for batches of any size and length."""

from typing import Any

import torch
from torch._inductor import config as inductor


class CompiledModel:
    """Called as the model itself. Compiled at the first call, once for batches and once for a window alone: torch takes a size
    of 1 for a constant, all others are variables of the graph."""

    def __init__(self, model: torch.nn.Module):
        """`model` in evaluation mode, on its device. Its weights must not change after the first call: on a CPU the compiler
        stores them in the order in which its products read them."""
        self.model = model
        self._on_cpu = next(model.parameters()).device.type == "cpu"
        self._run = torch.compile(model, dynamic=True)

    def __call__(self, **inputs: Any) -> Any:
        if not self._on_cpu:
            return self._run(**inputs)
        # the compiler leaves weights as they are under inference_mode, though that computes no gradients either; the setting
        # must hold where the model is traced too, not only in the compiler's options
        with torch.inference_mode(False), torch.no_grad(), inductor.patch(freezing=True):
            return self._run(**inputs)
