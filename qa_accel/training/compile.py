"""Forward and loss of one batch, compiled as one graph where that pays.

Packed batches have one shape for the whole run, so the graph is compiled once, and on one CUDA process the whole step around
it can be replayed as a CUDA graph (qa_accel/step.py).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from transformers import PreTrainedModel

from qa_accel.batching.collate import Batch, span_loss
from qa_accel.distributed import strategy
from qa_accel.models import architectures
from qa_accel.models import fast_layers as layers
from qa_accel.training.fused_linears import compile_merged


@dataclass(frozen=True)
class CompileConfig:
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of forward and loss: `auto` on CUDA with packed batches, whose shapes never change; a minute once. On
    one process the whole step is then replayed as a CUDA graph, unless the run is in fp16."""


class LossFunction:
    """(model, batch) -> sum of the batch's window losses; compiled or not."""

    def __init__(self, config: CompileConfig, accelerator: Accelerator, qa_model: PreTrainedModel, *, packed: bool):
        on_cuda = accelerator.device.type == "cuda"
        split = strategy.splits_training(accelerator)  # weights come and go in hooks that a graph would have to hold
        if config.compile == "on" and split:
            raise ValueError(
                f"--compile on is not supported under {strategy.name(accelerator)}: leave it out, or train with DDP"
            )
        self.compiled = config.compile == "on" or (config.compile == "auto" and on_cuda and packed and not split)
        self.whole_step = False
        """Whether the whole step may be captured as a CUDA graph."""
        self._run = forward_and_loss
        self._graphs_before = graphs_compiled()
        if self.compiled or not on_cuda:  # kernel by kernel on CUDA, torch's own is one and this would be five
            layers.replace(qa_model, layers.FastDropout)
        if not self.compiled:
            off = (
                "asked for"
                if config.compile == "off"
                else f"not supported under {strategy.name(accelerator)}"
                if split
                else "shapes change"
                if on_cuda
                else "a short run on a CPU gains nothing"
            )
            self.reason = f"off: {off}"
            return
        dynamic = not packed
        kind = architectures.architecture(qa_model.config) if on_cuda and packed else None
        if kind is not None and kind.post_norm:
            layers.replace(qa_model, layers.HalfLayerNorm)
        if accelerator.distributed_type == DistributedType.NO:  # a process alone may be wrapped in DDP all the same
            # a scaler (fp16) looks at the gradients on the host, to skip a step
            self.whole_step = kind is not None and accelerator.scaler is None
            self._run = torch.compile(forward_and_loss, backend=compile_merged, dynamic=dynamic)
            self.reason = "forward and loss as one graph" + (", the step as a CUDA graph" if self.whole_step else "")
        else:
            # DDP's own forward stays outside: its hooks are Python, and a captured graph would hold buffers that it moves
            qa_model.compile(backend=compile_merged, dynamic=dynamic)
            self.reason = "the model's forward; no CUDA graph with several processes"

    def __call__(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        return self._run(model, batch)

    @property
    def graphs(self) -> int:
        """Graphs compiled so far; it stays the same once every shape has been seen."""
        return graphs_compiled() - self._graphs_before


def forward_and_loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    output = model(**batch.inputs)
    return span_loss(output.start_logits, output.end_logits, batch)


def graphs_compiled() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]
