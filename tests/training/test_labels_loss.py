"""The loss of windows with several labels against loops in plain Python, in every kind of batch."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from tiny_packed import packed_batch, tiny_config, tiny_model
from tiny_packed import windows_of as random_windows
from torch._dynamo.utils import counters

from qa_accel.batching.collate import Batch, PackedCollator, PaddedCollator
from qa_accel.data.windows import Windows
from qa_accel.training.loss import loss_parts, span_loss

LENGTHS = [7, 12, 5, 9]
INDEX = np.array([2, 0, -1, 3, 1])
"""Of windows in a batch; one entry holds nothing."""
REAL = [0, 1, 3, 4]
GOLD = [[(3, 4)], [(3, 3), (5, 6), (5, 8), (9, 10)], [], [(4, 4), (7, 7)]]
"""Of each window the spans of its answers; two of the second window share their start."""
STARTS, ENDS = [{3}, {3, 5, 9}, {0}, {4, 7}], [{4}, {3, 6, 8, 10}, {0}, {4, 7}]
"""Of each window the places that are right; the third one has no answer, so its null token is."""


def windows_with(gold: list[list[tuple[int, int]]]) -> Windows:
    """A null token, two question tokens, a context and a last separator; no labels but `gold`."""
    begin_W = np.concatenate([[0], np.cumsum(LENGTHS)])
    length_W = np.array(LENGTHS)
    nothing_N = np.zeros(begin_W[-1], np.int32)
    first = [(spans or [(0, 0)])[0] for spans in gold]
    return Windows(
        input_ids_N=np.arange(begin_W[-1], dtype=np.int32),
        token_type_ids_N=None,
        offset_start_N=nothing_N,
        offset_end_N=nothing_N,
        begin_W=begin_W,
        question_W=np.arange(len(LENGTHS)),
        context_begin_W=np.full_like(length_W, 3),
        context_end_W=length_W - 1,
        null_W=np.zeros_like(length_W),
        start_W=np.array([start for start, _ in first]),
        end_W=np.array([end for _, end in first]),
        gold_begin_W=np.concatenate([[0], np.cumsum([len(spans) for spans in gold])]),
        gold_start_G=np.array([start for spans in gold for start, _ in spans], np.int32),
        gold_end_G=np.array([end for spans in gold for _, end in spans], np.int32),
    )


def batches_of(windows: Windows, index_B: np.ndarray = INDEX) -> dict[str, Batch]:
    return {
        "padded on the right": PaddedCollator(windows, pad_token_id=0)(index_B),
        "padded on the left": PaddedCollator(windows, pad_token_id=0, padding_side="left")(index_B),
        "packed": PackedCollator(windows, row_tokens=48, max_length=16, pad_token_id=0)(index_B),
    }


KINDS = ["padded on the right", "padded on the left", "packed"]


def places(batch: Batch) -> list[np.ndarray]:
    """Of each window, by its number, the place of each of its tokens among the batch's logits in one row."""
    inputs: dict[str, Any] = batch.inputs
    found: dict[int, np.ndarray] = {}
    for b in REAL:
        if "cu_seq_lens_q" in inputs:
            found[INDEX[b]] = np.arange(*inputs["cu_seq_lens_q"][b : b + 2].tolist())
        else:
            width = inputs["attention_mask"].shape[1]
            found[INDEX[b]] = b * width + np.flatnonzero(inputs["attention_mask"][b].numpy())
    return [found[w] for w in range(len(LENGTHS))]


def logits_of(batch: Batch, seed: int, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Start and end logits of every token of the batch, padding too."""
    generator = torch.Generator().manual_seed(seed)
    shape: tuple = batch.inputs["input_ids"].shape  # type: ignore[union-attr]
    start, end = (scale * torch.randn(shape, generator=generator) for _ in range(2))
    return start.requires_grad_(), end.requires_grad_()


def loss_by_hand(logits: list[float], right: set[int]) -> float:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return -math.log(sum(powers[place] for place in right) / sum(powers))


def gradient_by_hand(logits: list[float], right: set[int]) -> list[float]:
    """A place's probability, less its share of the right places' probability if it is one of them."""
    powers = [math.exp(logit - max(logits)) for logit in logits]
    of_right = sum(powers[place] for place in right)
    return [p / sum(powers) - (p / of_right if place in right else 0.0) for place, p in enumerate(powers)]


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_a_loop_over_windows_and_answers(kind):
    """Breaks if a place that two answers share counts twice, if padding or a neighbour has a share of the softmax, if left
    padding does not move the answers, if fill counts, or if a window without answer is not taught its null token."""
    batch = batches_of(windows_with(GOLD))[kind]
    start, end = logits_of(batch, seed=1)
    loss = span_loss(start, end, batch)
    found = torch.autograd.grad(loss, [start, end])
    expected_loss, expected = 0.0, [np.zeros(start.numel()), np.zeros(start.numel())]
    for window, place in enumerate(places(batch)):
        for side, (logits, right) in enumerate(zip((start, end), (STARTS[window], ENDS[window]))):
            own = logits.detach().reshape(-1)[place].tolist()
            expected_loss += loss_by_hand(own, right) / 2
            expected[side][place] = np.array(gradient_by_hand(own, right)) / 2
    assert loss.item() == pytest.approx(expected_loss, rel=1e-5) and expected_loss > 4
    for gradient, by_hand in zip(found, expected):
        np.testing.assert_allclose(gradient.reshape(-1).numpy(), by_hand, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_with_one_answer_each_loss_and_gradients_are_the_usual_ones_to_the_bit(kind, dtype):
    """Breaks if a run with `--answers all` on data of one answer each is another run than that with `any`."""
    several = windows_with([[(3, 4)], [(5, 8)], [], [(4, 4)]])
    one = Windows(**{**vars(several), "gold_begin_W": None, "gold_start_G": None, "gold_end_G": None})
    found = []
    for windows in (several, one):
        batch = batches_of(windows)[kind]
        start, end = (logits.detach().to(dtype).requires_grad_() for logits in logits_of(batch, seed=2))
        loss = span_loss(start, end, batch)
        found.append((loss.detach(), *torch.autograd.grad(loss, [start, end])))
    assert batches_of(several)[kind].gold_start_BL is not None and batches_of(one)[kind].gold_start_BL is None
    for with_several, with_one in zip(*found):
        assert torch.equal(with_several, with_one)


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_logits_of_any_size_have_a_finite_loss_and_gradient(scale):
    """The probability of all right places is 0 in fp32. Breaks if it is summed before its logarithm is taken."""
    batch = batches_of(windows_with(GOLD))["padded on the right"]
    start, end = logits_of(batch, seed=3, scale=scale)
    loss = span_loss(start, end, batch)
    gradients = torch.autograd.grad(loss, [start, end])
    assert loss.item() > scale / 10 and math.isfinite(loss.item())
    assert all(bool(torch.isfinite(gradient).all()) and gradient.abs().max() > 0.1 for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_nothing_but_fill_has_no_loss_and_no_gradient(kind):
    """Breaks if 0 * NaN is computed: ranks of the last step may have no window at all."""
    batch = batches_of(windows_with(GOLD), np.array([-1, -1]))[kind]
    start, end = logits_of(batch, seed=4)
    loss = span_loss(start, end, batch)
    assert loss.item() == 0
    for gradient in torch.autograd.grad(loss, [start, end]):
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_packed_batches_with_several_labels_compile_once_and_are_refilled():
    """A captured step reads the same tensors again and again. Breaks if a shape follows the number of labels, or if the right
    places are not copied with the rest of a batch."""
    lengths = [10, 16, 12, 8]
    plain = random_windows(lengths)
    gold = dict(gold_begin_W=np.array([0, 1, 5, 5, 7]), gold_start_G=np.array([5, 8, 9, 10, 15, 4, 6], np.int32))
    windows = Windows(**{**vars(plain), **gold, "gold_end_G": gold["gold_start_G"] + np.int32(0)})
    model_config = tiny_config("bert", num_hidden_layers=1)
    model = tiny_model(model_config, "packed")
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(loss_parts, dynamic=False, fullgraph=True, backend="eager")
    static = None
    with torch._dynamo.config.patch(error_on_recompile=True):
        for index in ([0, 1], [3, 2], [1, -1], [-1, -1]):
            batch = packed_batch(model_config, windows, np.array(index))
            torch.testing.assert_close(compiled(model, batch), loss_parts(model, batch), atol=1e-4, rtol=0)
            static = static or batch
            static.copy_from(batch)
            assert torch.equal(static.gold_start_BL, batch.gold_start_BL)  # type: ignore[arg-type]
            assert torch.equal(loss_parts(model, static)["span"], loss_parts(model, batch)["span"])
    assert counters["stats"]["unique_graphs"] == 1
