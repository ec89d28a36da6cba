"""What an optimizer step does that needs no GPU: the update of a captured step, run kernel by kernel.

tests/test_cuda.py captures whole steps, where there is a GPU.
"""

import copy

import pytest
import torch
from accelerate import Accelerator

from qa_accel.training.step import Step


def updated(first: torch.nn.Module, dtype: torch.dtype, max_grad_norm: float, *, recorded: bool) -> torch.Tensor:
    """The weights after three steps of a linear layer; `recorded`: clipped as when a graph is recorded."""
    model = copy.deepcopy(first).to(dtype)
    # such an epsilon makes AdamW's step follow the gradient's size, so that one clipped otherwise goes another way
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, eps=1.0, fused=True)
    accelerator = Accelerator(cpu=True)
    step = Step(accelerator, model, None, optimizer, max_grad_norm=max_grad_norm)  # type: ignore[arg-type]
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
