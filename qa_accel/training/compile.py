"""torch.compile of forward and loss as one graph, where that is faster, with linear layers fused.

Packed batches have one shape for the whole run, so the graph is compiled once. On one CUDA process the whole step around it
can be replayed as a CUDA graph (step.py).

Fused linears: linear layers that read the same tensor become one matrix product, between torch's tracer and its compiler. The
important case is attention's three projections: a single one is too small to fill a GPU, in the forward pass and for the
gradients of the weights. The weights are concatenated in the copy that casts them to half precision in any case. Parameters,
their names and the results stay the same.
"""

import operator
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import fx
from torch._dynamo import lookup_backend
from transformers import PreTrainedModel

from qa_accel.batching.collate import Batch
from qa_accel.distributed import compiler_cache, strategy
from qa_accel.models import architectures, fast_layers
from qa_accel.training.loss import loss_parts
from qa_accel.training.part_settings import CompileConfig, Distillation

LINEAR = (F.linear, torch._C._nn.linear)  # type: ignore[attr-defined]
AUTOCAST = (torch.amp.autocast_mode._enter_autocast, torch.amp.autocast_mode._exit_autocast)


class LossFunction:
    """(model, batch) -> the terms of the loss by name, as `loss_parts` gives them; compiled or not."""

    def __init__(
        self,
        config: CompileConfig,
        accelerator: Accelerator,
        qa_model: PreTrainedModel,
        *,
        packed: bool,
        distillation: Distillation | None = None,
    ):
        """distillation: for batches with a teacher's logits."""
        self.distillation = distillation
        on_cuda = accelerator.device.type == "cuda"
        split = strategy.splits_training(accelerator)  # hooks gather and free weights, which a graph cannot hold
        if config.compile == "on" and split:
            raise ValueError(
                f"--compile on is not supported under {strategy.name(accelerator)}: leave it out, or train with DDP"
            )
        self.compiled = config.compile == "on" or (config.compile == "auto" and on_cuda and packed and not split)
        self.whole_step = False
        """Whether the whole step may be captured as a CUDA graph."""
        self._run = loss_parts
        self._graphs_before = graphs_compiled()
        if self.compiled or not on_cuda:  # not compiled on CUDA, torch's dropout is one kernel, FastDropout five
            fast_layers.replace(qa_model, fast_layers.FastDropout)
        if not self.compiled:
            off = (
                "requested"
                if config.compile == "off"
                else f"not supported under {strategy.name(accelerator)}"
                if split
                else "shapes change"
                if on_cuda
                else "a short run on a CPU gains nothing"
            )
            self.reason = f"off: {off}"
            return
        if on_cuda:
            compiler_cache.keep()
        dynamic = not packed
        packed_on_cuda = on_cuda and packed
        if packed_on_cuda and architectures.architecture(qa_model.config).post_norm:
            fast_layers.replace(qa_model, fast_layers.HalfLayerNorm)
        if accelerator.distributed_type == DistributedType.NO:  # a single process may be wrapped in DDP too
            # a scaler (fp16) reads the gradients on the host, to skip a step
            self.whole_step = packed_on_cuda and accelerator.scaler is None
            self._run = torch.compile(loss_parts, backend=compile_fused, dynamic=dynamic)
            self.reason = "forward and loss as one graph" + (", the step as a CUDA graph" if self.whole_step else "")
        else:
            # without DDP's forward: its hooks are Python, and a captured graph would hold buffers that DDP moves
            qa_model.compile(backend=compile_fused, dynamic=dynamic)
            self.reason = "the model's forward; no CUDA graph with several processes"

    def __call__(self, model: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        return self._run(model, batch, self.distillation)

    @property
    def graphs(self) -> int:
        """Graphs compiled so far; it stays the same once every shape has been seen."""
        return graphs_compiled() - self._graphs_before


def graphs_compiled() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def compile_fused(graph_module: fx.GraphModule, example_inputs: Sequence[torch.Tensor]):
    """A backend for torch.compile: fuse_linears, then inductor."""
    fuse_linears(graph_module)
    # tries more tile sizes for pointwise kernels: saves 3 % of a step (BERT-base, H100) for some seconds of compiling
    options = {"max_autotune_pointwise": True}
    return lookup_backend("inductor")(graph_module, example_inputs, config_patches=options)  # type: ignore[call-arg]


def fuse_linears(graph_module: fx.GraphModule) -> int:
    """Changes the traced graph; returns its number of fused products."""
    groups: dict[tuple, list[fx.Node]] = {}
    region = 0  # a tensor changed in place, or another autocast: the same name means other operands
    for node in graph_module.graph.nodes:
        if node.target in AUTOCAST or _in_place(node):
            region += 1
        elif node.op == "call_function" and node.target in LINEAR and not node.kwargs:
            x, weight, *rest = node.args
            with_bias = bool(rest) and rest[0] is not None
            if all(operand.op in ("placeholder", "get_attr") for operand in (weight, *(rest if with_bias else ()))):
                trained = weight.meta["example_value"].requires_grad  # a frozen layer must not get a gradient
                groups.setdefault((x, with_bias, trained, region), []).append(node)
    fused = [nodes for nodes in groups.values() if len(nodes) > 1]
    for nodes in fused:
        _fuse(graph_module.graph, nodes)
    graph_module.recompile()
    return len(fused)


def _fuse(graph: fx.Graph, nodes: list[fx.Node]) -> None:
    x, _, *bias = nodes[0].args
    widths = [int(node.args[1].meta["example_value"].shape[0]) for node in nodes]  # type: ignore[union-attr]
    with graph.inserting_before(nodes[0]):
        weight = graph.call_function(torch.cat, ([node.args[1] for node in nodes],))
        if bias and bias[0] is not None:
            bias = [graph.call_function(torch.cat, ([node.args[2] for node in nodes],))]
        whole = graph.call_function(F.linear, (x, weight, *bias))
        parts = graph.call_function(torch.split, (whole, widths), {"dim": -1})
        pieces = [graph.call_function(operator.getitem, (parts, place)) for place in range(len(nodes))]
    for node, piece in zip(nodes, pieces):
        node.replace_all_uses_with(piece)
        graph.erase_node(node)


def _in_place(node: fx.Node) -> bool:
    """Whether torch's name of the operation ends with an underscore, or it is an operator such as `x += y`."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op == "call_function" and name in ("iadd", "imul", "isub", "itruediv", "setitem"):
        return True
    return node.op in ("call_function", "call_method") and name.endswith("_") and not name.endswith("__")
