"""Packed rows give the logits and gradients of padded ones."""

import inspect
from itertools import pairwise
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
from tiny_packed import (
    LENGTHS,
    MAX_LENGTH,
    VOCABULARY,
    packed_batch,
    padded_batch,
    tiny_config,
    tiny_model,
    windows_of,
)
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForQuestionAnswering, PretrainedConfig, PreTrainedModel

from qa_accel.batching.collate import Batch, window_logits
from qa_accel.data.windows import Windows
from qa_accel.models import attention
from qa_accel.models.architectures import PACKABLE
from qa_accel.models.attention import reference_attention
from qa_accel.training.loss import span_loss


def run(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Both logits of every real token of every real window, the loss, and the gradients."""
    output = model(**batch.inputs)
    start_BL, end_BL, token_BL = window_logits(output.start_logits, output.end_logits, batch)
    real_BL = token_BL & (batch.index_B >= 0)[:, None]
    loss = span_loss(output.start_logits, output.end_logits, batch)
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return torch.stack([start_BL[real_BL], end_BL[real_BL]]).detach(), loss.detach(), gradients


@pytest.mark.parametrize("way", ["window by window", "reference"])
@pytest.mark.parametrize("kind", PACKABLE)
def test_packed_logits_loss_and_gradients_equal_padded_ones(kind, way, monkeypatch):
    # What a model type must pass to be packable. Breaks if its positions begin elsewhere, if it drops cu_seq_lens on the
    # way to the attention, or if anything in it looks along the row.
    if way == "reference":  # what a compiled step runs
        monkeypatch.setattr(
            attention,
            "window_by_window",
            lambda q, k, v, boundaries, *rest: reference_attention(q, k, v, boundaries, MAX_LENGTH, *rest),
        )
    model_config = tiny_config(kind)
    windows = windows_of(LENGTHS)
    padded_logits, padded_loss, padded_gradients = run(
        tiny_model(model_config, "eager"), padded_batch(model_config, windows)
    )
    packed_logits, packed_loss, packed_gradients = run(
        tiny_model(model_config, "packed"), packed_batch(model_config, windows)
    )
    assert padded_logits.shape == (2, sum(LENGTHS)) and padded_logits.std() > 0.05
    torch.testing.assert_close(packed_logits, padded_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(packed_loss, padded_loss, atol=1e-5, rtol=1e-5)
    assert packed_gradients.keys() == padded_gradients.keys()
    for name, gradient in padded_gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: n + m)


def change_elsewhere(model: PreTrainedModel, model_config: PretrainedConfig) -> float:
    """How far the logits of window 1 move when its left and right neighbours, 0 and 2, get other tokens."""
    windows = windows_of([20, 30, 25])
    tokens = windows.input_ids_N.copy()
    for w in (0, 2):
        begin, end = windows.begin_W[w : w + 2]
        tokens[begin:end] = 3 + (tokens[begin:end] + 7) % (VOCABULARY - 3)
    others = Windows(**{**vars(windows), "input_ids_N": tokens})
    with torch.no_grad():
        batches = [packed_batch(model_config, w, np.arange(3)) for w in (windows, others)]
        logits = [model(**batch.inputs).start_logits[0, 20:50] for batch in batches]
        assert not torch.equal(batches[0].inputs["input_ids"], batches[1].inputs["input_ids"])
    return (logits[0] - logits[1]).abs().max().item()


@pytest.mark.parametrize("kind", PACKABLE)
def test_a_window_does_not_see_its_neighbours(kind):
    model_config = tiny_config(kind)
    assert change_elsewhere(tiny_model(model_config, "packed"), model_config) == 0


@pytest.mark.parametrize("kind", ["bert", "modernbert", "mobilebert"])
def test_without_packed_attention_a_window_does_see_its_neighbours(kind):
    # What the test above must be able to find: transformers itself takes a row for one sequence.
    model_config = tiny_config(kind)
    assert change_elsewhere(tiny_model(model_config, "sdpa"), model_config) > 0.01


def test_mobilebert_needs_more_than_the_attention_function():
    # It embeds each token with its two neighbours: use_packed_attention must handle it.
    model_config = tiny_config("mobilebert")
    half_way = tiny_model(model_config, "eager")
    half_way.set_attn_implementation("packed")
    assert change_elsewhere(half_way, model_config) > 0.01


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_the_cuda_kernel_gets_what_it_documents(kind, monkeypatch):
    # No kernel runs here: its place is taken by its documentation (rows of (T, heads, d), windows [i - left, i + right],
    # -1 for no limit), one window after the other. Breaks if axes, scale or reach are passed differently.
    calls = []

    def varlen_attn(*args, **options):
        arguments = inspect.signature(attention.varlen_attn).bind(*args, **options).arguments
        boundaries, (left, right) = arguments["cu_seq_q"].tolist(), arguments["window_size"]
        assert max(np.diff(boundaries)) <= arguments["max_q"] == arguments["max_k"]
        assert arguments["cu_seq_k"] is arguments["cu_seq_q"]
        out = torch.empty_like(arguments["query"])
        for begin, end in pairwise(boundaries):
            q, k, v = (arguments[name][begin:end].transpose(0, 1) for name in ("query", "key", "value"))
            distance = torch.arange(end - begin) - torch.arange(end - begin)[:, None]
            seen = ((left < 0) | (distance >= -left)) & ((right < 0) | (distance <= right))
            scores = (q @ k.transpose(1, 2) * arguments["scale"]).masked_fill(~seen, -torch.inf)
            out[begin:end] = (scores.softmax(-1) @ v).transpose(0, 1)
        calls.append((left, right))
        return out

    model_config = tiny_config(kind)
    model, batch = tiny_model(model_config, "packed"), packed_batch(model_config, windows_of(LENGTHS))
    with torch.no_grad():
        expected = model(**batch.inputs)
        double = create_autospec(attention.varlen_attn, side_effect=varlen_attn)
        monkeypatch.setattr(attention, "varlen_attn", double)
        monkeypatch.setattr(attention, "kernel_takes", lambda *_: True)
        found = model(**batch.inputs)
    assert calls == {"bert": [(-1, -1)] * 3, "modernbert": [(-1, -1), (8, 8), (-1, -1)]}[kind]
    torch.testing.assert_close(found.start_logits, expected.start_logits, atol=1e-5, rtol=0)


def test_local_attention_reaches_as_far_as_padded_and_no_further():
    # 60 tokens, 8 to either side: a token that is one step too far away must not count, the last one within must.
    T, far = 60, 8
    q, k, v = torch.randn(3, T, 2, 8, generator=torch.Generator().manual_seed(0))
    boundaries = torch.tensor([0, T], dtype=torch.int32)
    out = reference_attention(q, k, v, boundaries, T, None, far)
    for distance, moves in ((far, True), (far + 1, False)):
        changed = v.clone()
        changed[30 + distance] += 1
        moved = reference_attention(q, k, changed, boundaries, T, None, far)[30] - out[30]
        assert (moved.abs().max() > 0) == moves


def test_every_place_sees_something_also_in_windows_of_no_tokens(monkeypatch):
    # Fill and most fillers have no tokens. A softmax over nothing depends on the kernel: some give zeros, others NaN,
    # and NaN in an unused place would come back through the gradient of a weight.
    masks = []

    def attend(q, k, v, attn_mask, scale):
        masks.append(attn_mask)
        return scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, scale=scale)

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", attend)
    q, k, v = torch.randn(3, 10, 2, 8, generator=torch.Generator().manual_seed(0)).unbind()
    q.requires_grad_()
    boundaries = torch.tensor([0, 0, 6, 6, 10, 10], dtype=torch.int32)
    for radius in (None, 1):
        out = reference_attention(q, k, v, boundaries, 6, None, radius)
        (gradient,) = torch.autograd.grad(out.sum(), q)
        assert torch.isfinite(out).all() and torch.isfinite(gradient).all()
    assert len(masks) == 2 and all(mask.any(dim=-1).all() for mask in masks)


def test_packed_training_runs_under_bfloat16_autocast():
    # On the CPU autocast hands the attention bfloat16; logits stay within its precision of the float32 ones.
    model_config = tiny_config("modernbert", initializer_range=0.02)
    model, batch = tiny_model(model_config, "packed"), packed_batch(tiny_config("modernbert"), windows_of(LENGTHS))
    exact = model(**batch.inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(**batch.inputs)
        span_loss(rough.start_logits, rough.end_logits, batch).backward()
    torch.testing.assert_close(rough.start_logits.float(), exact.start_logits, atol=0.02, rtol=0)


def test_a_packed_model_is_saved_as_any_other(tmp_path):
    # Breaks if "packed" or the changed embeddings get into what is saved: others could not load it.
    for kind in ("bert", "mobilebert"):
        model_config = tiny_config(kind)
        tiny_model(model_config, "packed").save_pretrained(tmp_path / kind)
        assert "packed" not in (tmp_path / kind / "config.json").read_text().lower()
        loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / kind).eval()
        windows = windows_of(LENGTHS)
        expected, _, _ = run(tiny_model(model_config, "eager"), padded_batch(model_config, windows))
        found, _, _ = run(loaded, padded_batch(model_config, windows))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_packed_model_rejects_a_padded_batch():
    # Without boundaries it would take the batch's first row for all, in silence.
    model_config = tiny_config("bert")
    with pytest.raises(AssertionError, match="PackedCollator"):
        tiny_model(model_config, "packed")(**padded_batch(model_config, windows_of(LENGTHS)).inputs)
