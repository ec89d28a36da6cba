"""Packed batches are compiled once, whatever they hold."""

import numpy as np
import pytest
import torch
from tiny_packed import LENGTHS, packed_batch, tiny_config, tiny_model, windows_of
from torch._dynamo.utils import counters

from qa_accel.batching.collate import Batch
from qa_accel.data.windows import TaughtWindows
from qa_accel.models.architectures import PACKABLE
from qa_accel.training.loss import loss_parts, total
from qa_accel.training.part_settings import Distillation


def compiled_loss(kind: str, backend: str) -> list[tuple[float, float]]:
    """(compiled, eager) loss of four packed batches of other lengths, one of them half empty, one all fill.

    Raises if a batch after the first compiles anything, or if the graph breaks.
    """
    layers = {"modernbert": 2, "ultrabert": 3}.get(kind, 1)  # one of each sort
    model_config = tiny_config(kind, **{"n_layers" if kind == "distilbert" else "num_hidden_layers": layers})
    model = tiny_model(model_config, "packed")

    def loss_of(batch: Batch) -> torch.Tensor:
        return loss_parts(model, batch)["span"]

    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(loss_of, dynamic=False, fullgraph=True, backend=backend)
    windows = windows_of(LENGTHS)
    pairs = []
    with torch._dynamo.config.patch(error_on_recompile=True):
        for index in ([0, 1, 2, 3], [5, 4, 2, 0], [1, 3, -1, -1], [-1, -1, -1, -1]):
            batch = packed_batch(model_config, windows, np.array(index))
            loss = compiled(batch)
            loss.backward()
            pairs.append((loss.item(), loss_of(batch).item()))
    assert counters["stats"]["unique_graphs"] == 1
    return pairs


@pytest.mark.parametrize("kind", PACKABLE)
def test_packed_batches_compile_once(kind):
    # Dynamo alone decides about recompilation: nothing need be compiled to count it. Breaks if a shape or a Python
    # number follows the batch, or if the attention asks a tensor for its value (.item()).
    for compiled, eager in compiled_loss(kind, "eager"):
        assert compiled == pytest.approx(eager, abs=1e-4)


def test_packed_batches_compile_to_machine_code_that_agrees():
    # The slow one (some 20 s, and a C++ compiler): what runs is inductor's code.
    losses = compiled_loss("distilbert", "inductor")
    assert losses[-1] == (0.0, 0.0)
    for compiled, eager in losses:
        assert compiled == pytest.approx(eager, abs=1e-4)


def test_the_loss_with_a_teacher_compiles_once_too():
    """Breaks if the teacher's term asks a tensor for its value, or if the temperature becomes a number that a graph is compiled
    again for: a captured CUDA graph would go on with the first one."""
    model_config = tiny_config("bert", num_hidden_layers=1)
    model, plain = tiny_model(model_config, "packed"), windows_of(LENGTHS)
    start_N, end_N = np.random.default_rng(0).normal(size=(2, sum(LENGTHS))).astype(np.float16)
    windows = TaughtWindows(**vars(plain), teacher_start_MN=(start_N,), teacher_end_MN=(end_N,))
    distillation = Distillation(temperature=2.0, weight=0.75)
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(loss_parts, dynamic=False, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for index in ([0, 1, 2, 3], [5, 4, 2, 0], [1, 3, -1, -1], [-1, -1, -1, -1]):
            batch = packed_batch(model_config, windows, np.array(index))
            parts = compiled(model, batch, distillation)
            total(parts).backward()
            assert parts.keys() == {"span", "distillation"}
            torch.testing.assert_close(parts, loss_parts(model, batch, distillation), atol=1e-4, rtol=0)
    assert counters["stats"]["unique_graphs"] == 1
