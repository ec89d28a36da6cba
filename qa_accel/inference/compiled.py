"""A model of torch -> the same, compiled for inference on its device."""

from typing import Any

import torch
from torch._inductor import config as inductor

from qa_accel.distributed import compiler_cache


class CompiledModel:
    """Called as the model itself, and compiled at the first call."""

    def __init__(self, model: torch.nn.Module, *, packed: bool = False):
        """`model` in evaluation mode, on its device. Its weights must not change after the first call: on a CPU the compiler
        stores them in the order in which its products read them.

        packed: for batches of one shape or two, such as those of one plan, whose batches differ by a window at most; each shape is a
        graph, which is replayed as a CUDA graph on a GPU: a call's logits are valid until the next call. Otherwise for batches of any size and length, compiled once for batches and once for a window
        alone: torch takes a size of 1 for a constant, all others are variables of the graph.
        """
        self.model = model
        self._on_cpu = next(model.parameters()).device.type == "cpu"
        if not self._on_cpu:
            compiler_cache.keep()
        replayed = packed and not self._on_cpu
        self._run = torch.compile(model, dynamic=not packed, mode="reduce-overhead" if replayed else None)

    def __call__(self, **inputs: Any) -> Any:
        if not self._on_cpu:
            return self._run(**inputs)
        # the compiler leaves weights as they are under inference_mode, though that computes no gradients either; the setting
        # must hold where the model is traced too, not only in the compiler's options
        with torch.inference_mode(False), torch.no_grad(), inductor.patch(freezing=True):
            return self._run(**inputs)
