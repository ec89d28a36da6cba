"""Dropout from sixteen bits and layer norms in half precision do what torch's own do."""

import math

import pytest
import torch
from torch import nn

from qa_accel.models import fast_layers
from qa_accel.models.fast_layers import FastDropout, HalfLayerNorm, dropout


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_rate_and_scale_are_those_requested(rate):
    """A million draws: a rate that is off by five standard errors fails, e.g. one of signed bits compared as unsigned."""
    torch.manual_seed(0)
    x = torch.ones(1000, 1003)
    y = dropout(x, rate)
    dropped = float((y == 0).float().mean())
    assert abs(dropped - rate) < 5 * math.sqrt(rate * (1 - rate) / x.numel())
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - rate)), rtol=1e-4, atol=0)


def test_neighbours_are_dropped_independently():
    """Four elements share a word of random bits. Breaks if they share the bits too, or if one of the four has fewer."""
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(400_000), 0.5) == 0).view(-1, 4).float()
    assert (dropped.mean(0) - 0.5).abs().max() < 0.01
    assert (torch.corrcoef(dropped.T) - torch.eye(4)).abs().max() < 0.02


def test_gradients_flow_where_values_did():
    torch.manual_seed(0)
    x = torch.randn(50, 70, requires_grad=True)
    y = dropout(x, 0.3)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (y / x).detach())


def test_a_seed_gives_the_same_draws_and_the_next_call_others():
    """A resumed run must drop what the uninterrupted one drops."""
    x = torch.ones(1000)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), first) and not torch.equal(first, second)


@pytest.mark.parametrize("size", [(0,), (1,), (5,), (3, 7)])
def test_any_size_and_the_rates_at_the_ends(size):
    x = torch.randn(size)
    assert dropout(x, 0.5).shape == x.shape
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(dropout(x, 1.0), torch.zeros(size))


def test_only_torchs_own_layers_are_replaced_and_only_in_training():
    class Special(nn.Dropout):
        pass

    model = nn.Sequential(nn.LayerNorm(4), nn.Dropout(0.5), Special(0.5))
    names = list(model.state_dict())
    fast_layers.replace(model, FastDropout)
    fast_layers.replace(model, HalfLayerNorm)
    assert [type(module) for module in model] == [HalfLayerNorm, FastDropout, Special]
    assert list(model.state_dict()) == names
    x = torch.randn(3, 4)
    model.eval()
    torch.testing.assert_close(model(x), nn.functional.layer_norm(x, (4,)))


def test_a_norm_is_rounded_under_autocast_in_training_only():
    norm, x = HalfLayerNorm(8), torch.randn(5, 8)
    expected = nn.functional.layer_norm(x, (8,))
    assert norm(x).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(x).dtype == torch.bfloat16
        assert torch.equal(norm(x), expected.bfloat16()), "rounded once, at the end"
        assert norm.eval()(x).dtype == torch.float32
