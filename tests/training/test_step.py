"""What an optimizer step does that needs no GPU: the update of a captured step, run kernel by kernel.

tests/training/test_cuda.py captures whole steps, where there is a GPU.
"""

import copy
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from qa_accel.training.step import OptimizerStep, StepResult


def updated(first: torch.nn.Module, dtype: torch.dtype, max_grad_norm: float, *, recorded: bool) -> torch.Tensor:
    """The weights after three steps of a linear layer; `recorded`: clipped as when a graph is recorded."""
    model = copy.deepcopy(first).to(dtype)
    # such an epsilon makes AdamW's step follow the gradient's size, so that one clipped otherwise goes another way
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, eps=1.0, fused=True)
    accelerator = Accelerator(cpu=True)
    step = OptimizerStep(accelerator, model, None, optimizer, max_grad_norm=max_grad_norm)  # type: ignore[arg-type]
    step.recording = recorded
    for number in range(3):
        inputs = torch.full((2, 8), float(number + 1), dtype=dtype)
        model(inputs).square().sum().backward()
        norm = step._clip()
        assert norm > 2, "nothing would be clipped"
        optimizer.step()
        optimizer.zero_grad()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("max_grad_norm", [0, 1.0])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_clipping_inside_of_the_update_is_clipping_before_it(dtype, near, max_grad_norm):
    """Breaks if the update sees other gradients than clipped ones, clips where nothing is to be clipped, or, with weights
    in half precision, is given a divisor that it reads as another type."""
    torch.manual_seed(0)
    first = torch.nn.Linear(8, 4)
    plain = updated(first, dtype, max_grad_norm, recorded=False)
    torch.testing.assert_close(updated(first, dtype, max_grad_norm, recorded=True), plain, atol=near, rtol=0)
    assert not torch.allclose(plain.float(), torch.cat([p.flatten() for p in first.parameters()]), atol=0.05)


class TwoParts(torch.nn.Module):
    """Predicts two numbers for each window; a part of the loss for each of them."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x)


@dataclass
class Inputs:
    """What a step needs of a batch."""

    x: torch.Tensor

    def to(self, device, non_blocking: bool = False) -> "Inputs":
        return self


def two_parts(model: torch.nn.Module, batch: Inputs) -> dict[str, torch.Tensor]:
    first, second = model(batch.x).unbind(-1)
    return {"span": first.square().sum(), "distillation": (second - 1).square().sum()}


def test_a_loss_of_two_parts_is_trained_by_their_sum_and_reported_by_name():
    """Two micro-batches. Breaks if a part has no share in the gradient, or if parts are mixed up or not accumulated."""
    torch.manual_seed(0)
    model = TwoParts()
    batches = [Inputs(torch.randn(4, 3)), Inputs(torch.randn(4, 3))]
    by_hand = copy.deepcopy(model)
    expected = [two_parts(by_hand, batch) for batch in batches]
    (sum(part for parts in expected for part in parts.values()) / 8).backward()  # type: ignore[union-attr]
    gradients = [parameter.grad for parameter in by_hand.parameters()]

    rate = 0.1
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model, optimizer = accelerator.prepare(model, optimizer)
    step = OptimizerStep(accelerator, model, two_parts, optimizer, max_grad_norm=0)  # type: ignore[arg-type]
    result = step(batches, windows=8)  # type: ignore[arg-type]

    assert list(result.loss_parts) == ["span", "distillation"]
    for name, part in result.loss_parts.items():
        torch.testing.assert_close(part, sum(parts[name].detach() for parts in expected))
    torch.testing.assert_close(result.loss_sum, sum(result.loss_parts.values()))
    for old, new, gradient in zip(before, model.parameters(), gradients):
        torch.testing.assert_close(old - new.detach(), rate * gradient)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    torch.testing.assert_close(result.grad_norm, norm)
    assert norm > 0.1


def test_the_next_replay_leaves_the_result_of_the_last_one_alone():
    """The graph is a stand-in that adds 1 to its tensors. Breaks if a part of the loss is returned without a copy."""
    model = torch.nn.Linear(1, 1)
    step = OptimizerStep(Accelerator(cpu=True), model, two_parts, torch.optim.SGD(model.parameters()), max_grad_norm=0)  # type: ignore[arg-type]
    static = torch.zeros(3)
    step.static, step.numbers = [], torch.zeros(2)
    step.result = StepResult({"span": static[0], "distillation": static[1]}, static[2])
    step.graph = SimpleNamespace(replay=lambda: static.add_(1))  # type: ignore[assignment]
    results = [step._replay([], 1.0) for _ in range(2)]
    for expected, result in enumerate(results, start=1):
        assert [*result.loss_parts.items()] == [("span", expected), ("distillation", expected)]
        assert result.grad_norm == expected and result.loss_sum == 2 * expected
