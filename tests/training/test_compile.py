"""Linear layers that read the same tensor become one product, and nothing else changes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo import lookup_backend

from qa_accel.training.compile import LINEAR, fuse_linears


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(8, width) for width in (8, 8, 16, 8))

    def forward(self, x):
        return torch.cat([self.query(x), self.key(x), self.value(x), self.output(x + 1)], dim=-1)


def compiled(module: nn.Module):
    """The module under torch.compile, with the number of linears in its graph after fusion, and of fused ones."""
    found = {}

    def backend(graph_module, inputs):
        found["fused"] = fuse_linears(graph_module)
        found["linears"] = sum(node.target in LINEAR for node in graph_module.graph.nodes)
        return lookup_backend("aot_eager")(graph_module, inputs)

    torch._dynamo.reset()
    return torch.compile(module, backend=backend, fullgraph=True), found


def gradients(module: nn.Module, run, x: torch.Tensor) -> list[torch.Tensor | None]:
    module.zero_grad()
    run(x).square().sum().backward()
    return [parameter.grad for parameter in module.parameters()]


@pytest.mark.parametrize("autocast", [False, True])
def test_three_of_four_become_one_with_the_same_result(autocast):
    """Breaks if a piece goes to another layer's reader, or a bias is lost."""
    torch.manual_seed(0)
    module, x = Attention(), torch.randn(2, 5, 8)
    run, found = compiled(module)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        torch.testing.assert_close(run(x), module(x))
        expected = gradients(module, module, x)
        torch.testing.assert_close(gradients(module, run, x), expected)
    assert found == {"fused": 1, "linears": 2}


def test_frozen_layers_stay_frozen():
    """LoRA: in one product with a trained layer a frozen weight would be given a gradient, at its full price."""
    module = Attention()
    module.key.requires_grad_(False)
    module.value.requires_grad_(False)
    run, found = compiled(module)
    grads = gradients(module, run, torch.randn(3, 8))
    assert found == {"fused": 1, "linears": 3}, "the two frozen ones"
    assert [grad is None for grad in grads] == [False] * 2 + [True] * 4 + [False] * 2


class Changed(Attention):
    def forward(self, x):
        x = x * 2
        first = self.query(x)
        x.add_(1)
        return first + self.key(x)


class Cast(Attention):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            first = self.query(x)
        return first + self.key(x)


@pytest.mark.parametrize("kind", [Changed, Cast])
def test_the_same_name_is_not_always_the_same_operand(kind):
    """A tensor that is changed between two readers, and readers under another autocast, are left alone."""
    module, x = kind(), torch.randn(3, 8)
    run, found = compiled(module)
    with torch.no_grad():
        torch.testing.assert_close(run(x), module(x))
    assert found["fused"] == 0


def test_linears_without_bias_are_fused_too():
    weights = nn.ParameterList([nn.Parameter(torch.randn(4, 8)) for _ in range(2)])

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = weights

        def forward(self, x):
            return F.linear(x, self.weights[0]) * F.linear(x, self.weights[1])

    module, x = Plain(), torch.randn(3, 8)
    run, found = compiled(module)
    torch.testing.assert_close(run(x), module(x))
    assert found == {"fused": 1, "linears": 1}
