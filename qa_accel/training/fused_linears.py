"""Linear layers that read the same tensor -> one matrix product; a step between torch's tracer and its compiler.

Attention's three projections are the case that counts: one product three times as wide forwards and for the weights'
gradients, where each alone is too small to fill a GPU. The weights are put side by side in the copy that casts them to half
precision anyway. Parameters, their names and what is computed stay as they are.
"""

import operator
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import fx
from torch._dynamo import lookup_backend

LINEAR = (F.linear, torch._C._nn.linear)  # type: ignore[attr-defined]
AUTOCAST = (torch.amp.autocast_mode._enter_autocast, torch.amp.autocast_mode._exit_autocast)


def compile_merged(graph_module: fx.GraphModule, example_inputs: Sequence[torch.Tensor]):
    """A backend for torch.compile: torch's own after merge_linears."""
    merge_linears(graph_module)
    # some seconds more of compiling for 3 % of a step (BERT-base, H100): more tile sizes are tried for what is no product
    options = {"max_autotune_pointwise": True}
    return lookup_backend("inductor")(graph_module, example_inputs, config_patches=options)  # type: ignore[call-arg]


def merge_linears(graph_module: fx.GraphModule) -> int:
    """Change the traced graph; returns how many merged products it has now."""
    groups: dict[tuple, list[fx.Node]] = {}
    region = 0  # a tensor changed in place, or another autocast: the same name, not the same operands
    for node in graph_module.graph.nodes:
        if node.target in AUTOCAST or _in_place(node):
            region += 1
        elif node.op == "call_function" and node.target in LINEAR and not node.kwargs:
            x, weight, *rest = node.args
            with_bias = bool(rest) and rest[0] is not None
            if all(operand.op in ("placeholder", "get_attr") for operand in (weight, *(rest if with_bias else ()))):
                trained = weight.meta["example_value"].requires_grad  # a frozen layer must not get a gradient
                groups.setdefault((x, with_bias, trained, region), []).append(node)
    merged = [nodes for nodes in groups.values() if len(nodes) > 1]
    for nodes in merged:
        _merge(graph_module.graph, nodes)
    graph_module.recompile()
    return len(merged)


def _merge(graph: fx.Graph, nodes: list[fx.Node]) -> None:
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
    """As torch names such operations: with an underscore at the end; or the operators of `x += y`."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op == "call_function" and name in ("iadd", "imul", "isub", "itruediv", "setitem"):
        return True
    return node.op in ("call_function", "call_method") and name.endswith("_") and not name.endswith("__")
