"""Packed rows on a GPU: the kernel's windows, reach and gradients, for all the models that it serves, as padded fp32 rows have them."""

import pytest
import torch
from tiny_packed import INDEX, LENGTHS, packed_batch, padded_batch, tiny_config, tiny_model, windows_of

from qa_accel.batching.collate import Batch, window_logits
from qa_accel.models import attention
from qa_accel.models.architectures import PACKABLE
from qa_accel.training.loss import span_loss

pytestmark = pytest.mark.cuda

PRECISE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""Distance, relative to its length, between a result in this precision and in fp32."""


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found.float() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("radius", [None, 8])
@pytest.mark.parametrize("dtype", PRECISE)
def test_the_kernel_computes_what_the_reference_does(dtype, radius):
    """Output and gradients, with windows of no tokens and of one. Breaks if the kernel counts the reach from another token,
    or reads beyond a window."""
    lengths = [60, 0, 33, 1, 128, 64, 0]
    boundaries = torch.tensor([0, *lengths], device="cuda").cumsum(0).int()
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v, weights = torch.randn(4, 1, 4, sum(lengths), 32, device="cuda", generator=generator)
    qkv = [x.to(dtype).requires_grad_() for x in (q, k, v)]
    exact_qkv = [x.detach().float().requires_grad_() for x in qkv]
    boundary = {"cu_seq_lens_q": boundaries, "max_length_q": 128}
    window = {"scaling": 0.2, "sliding_window": None if radius is None else radius + 1}
    out, _ = attention.packed_attention(torch.nn.Module(), *qkv, None, **boundary, **window)
    exact = attention.reference_attention(
        *(x[0].transpose(0, 1) for x in exact_qkv), boundaries, 128, window["scaling"], radius
    )
    assert out.dtype == dtype
    assert distance(out[0], exact) < PRECISE[dtype]
    (out[0].transpose(0, 1) * weights[0].to(dtype)).sum().backward()
    (exact.transpose(0, 1) * weights[0]).sum().backward()
    for half, full in zip(qkv, exact_qkv):
        assert half.grad is not None and full.grad is not None
        assert distance(half.grad, full.grad) < PRECISE[dtype]


def logits_and_gradients(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Both logits of the windows' tokens, and the gradients of the loss."""
    output = model(**batch.inputs)
    start_BL, end_BL, token_BL = window_logits(output.start_logits, output.end_logits, batch)
    real_BL = token_BL & (batch.index_B >= 0)[:, None]
    span_loss(output.start_logits, output.end_logits, batch).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return torch.stack([start_BL[real_BL], end_BL[real_BL]]).detach(), gradients


@pytest.mark.parametrize("precision", PRECISE)
@pytest.mark.parametrize("kind", PACKABLE)
def test_packed_logits_and_gradients_are_those_of_padded_fp32_rows(kind, precision):
    """Breaks if a model hands the kernel other arguments than the padded attention gets, such as its reach."""
    model_config, windows = tiny_config(kind, initializer_range=0.1), windows_of(LENGTHS)
    assert len(INDEX) > len(LENGTHS), "one entry of the batch holds nothing"
    padded = tiny_model(model_config, "eager").cuda()
    expected, gradients = logits_and_gradients(padded, padded_batch(model_config, windows).to("cuda"))
    packed = tiny_model(model_config, "packed").cuda()
    with torch.autocast("cuda", precision):
        found, half_gradients = logits_and_gradients(packed, packed_batch(model_config, windows).to("cuda"))
    assert expected.std() > 0.01
    assert distance(found, expected) < 5 * PRECISE[precision]
    assert half_gradients.keys() == gradients.keys()
    whole, half = (torch.cat([g[name].flatten() for name in gradients]) for g in (gradients, half_gradients))
    assert distance(half, whole) < 10 * PRECISE[precision]
