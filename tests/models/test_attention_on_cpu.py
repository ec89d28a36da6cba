"""The attention that trains on a CPU computes what transformers' own eager attention does."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import zoo
from transformers import AutoModelForQuestionAnswering
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from qa_accel.models import attention as attention_module
from qa_accel.models import cpu_attention
from qa_accel.models.cpu_attention import bias, block_attention

LENGTHS = (19, 7, 24)


class Layer(torch.nn.Module):
    """The attributes of a module that an attention function reads."""

    is_causal = False


def without_dropout(monkeypatch) -> None:
    monkeypatch.setattr(F, "dropout", lambda input, *args, **kwargs: input)
    monkeypatch.setattr(attention_module, "block_attention", partial(block_without_dropout, block_attention))


def block_without_dropout(attention, *tensors, dropout: float, **settings) -> torch.Tensor:
    return attention(*tensors, dropout=0.0, **settings)


def answers(folder, attention: str, **settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a model in training: start logits of the real tokens, and the gradient of their squares in all weights."""
    model = AutoModelForQuestionAnswering.from_pretrained(folder, attn_implementation=attention, **settings).train()
    assert model.config._attn_implementation == attention
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.arange(max(LENGTHS)).repeat(len(LENGTHS), 1) + 5
    logits = model(input_ids=tokens, attention_mask=mask.long()).start_logits[mask]
    logits.square().sum().backward()
    grads = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return logits.detach(), grads


@pytest.mark.parametrize(
    "kind", ["bart", "bert", "distilbert", "gpt2", "mistral", "modernbert", "qwen3", "roberta", "t5"]
)
def test_logits_and_gradients_are_those_of_eager_attention(kind, monkeypatch, tmp_path):
    """Dropout is off, the batch ragged, fp32. Breaks if a mask, a scale, a bias of positions or a shared key is lost."""
    without_dropout(monkeypatch)
    folder = zoo.make(kind, tmp_path)
    settings = dict(dropout_rate=0.0) if kind == "t5" else {}  # its attention is torch's, with its own dropout
    expected, expected_grads = answers(folder, "eager", **settings)
    logits, grads = answers(folder, "cpu", **settings)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(grads, expected_grads, atol=2e-5 * float(expected_grads.abs().max()), rtol=1e-3)


def called(layer: Layer, mask: torch.Tensor | None, dropout: float = 0.0, autocast: bool = False) -> torch.Tensor:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return attention_module.cpu_attention(layer, q, k, v, mask, dropout=dropout, is_causal=False)[0]


def test_a_row_without_any_key_gives_no_nan():
    """Left padding under a causal mask has such rows; a NaN there reaches every weight's gradient."""
    mask = torch.ones(2, 1, 10, 10, dtype=torch.bool)
    mask[0, :, :3] = False
    for autocast in (False, True):
        assert called(Layer(), mask, autocast=autocast).isfinite().all()
    assert (bias(mask, torch.bfloat16) + torch.finfo(torch.bfloat16).min / 2).isfinite().all()


def test_half_precision_stays_close():
    full, half = called(Layer(), None), called(Layer(), None, autocast=True)
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).norm() / full.norm() < 0.01


def test_dropout_takes_its_share_and_keeps_the_mean():
    """Over many draws the mean is what it is without dropout; breaks if shares are dropped after their sum was made one
    again, or are not divided by what is kept."""
    layer, rate = Layer(), 0.3
    draws = []
    for seed in range(600):
        torch.manual_seed(seed)
        q, k, v = torch.zeros(3, 1, 1, 10, 8)
        v = torch.ones_like(v)  # each output is the sum of the kept shares, of 1 / 10 each
        draws.append(
            attention_module.cpu_attention(layer, q, k, v, None, dropout=rate, is_causal=False)[0].flatten()[::8]
        )
    sums = torch.cat(draws)
    spread = math.sqrt(rate / (1 - rate) / 10)
    assert abs(float(sums.mean()) - 1) < 5 * spread / math.sqrt(len(sums))
    assert float(sums.std()) == pytest.approx(spread, rel=0.05)


def test_outside_of_training_it_is_torchs_kernel():
    """Evaluation in training and later prediction must give the same numbers."""
    layer = Layer().eval()
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    expected, _ = sdpa_attention_forward(layer, q, k, v, None, is_causal=False)
    assert torch.equal(called(layer, None, dropout=0.5), expected)


def masks(B: int, heads: int, L: int) -> dict[str, torch.Tensor | None]:
    length_B1 = torch.tensor([[L], [L - 3], [5]])[:B]
    place_L = torch.arange(L)
    right, left = place_L < length_B1, place_L >= L - length_B1
    near = (place_L[:, None] - place_L).abs() < 4
    return {
        "none": None,
        "right padding": right[:, None, None, :].expand(B, 1, L, L),
        "left padding": left[:, None, None, :].expand(B, 1, L, L),
        "one row, keys only": right[1:2, None, None, :],
        "neighbours": near.expand(B, 1, L, L),
        # each query sees a key: what a row without any gives is another question
        "neighbours and padding": near & (right[:, None, None, :] | torch.eye(L, dtype=torch.bool)),
        "per head": torch.rand(B, heads, L, L) < 0.8,
        "bias": torch.randn(B, heads, L, L, dtype=torch.float64),
    }


@pytest.mark.parametrize("block_bytes", [1, 30_000, 1 << 20], ids=["one head", "some", "all at once"])
@pytest.mark.parametrize("kind", masks(1, 1, 9))
def test_blocks_give_what_torchs_attention_gives(kind, block_bytes, monkeypatch):
    """In float64, of 3 rows of 23 tokens and 4 heads. Breaks if a block takes the keys or the bias of another row or head, if
    its gradients are put elsewhere, or if a buffer is used again before its values are."""
    monkeypatch.setattr(cpu_attention, "BLOCK_BYTES", block_bytes)
    torch.manual_seed(0)
    leaves = [torch.randn(3, 23, 4, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    q, k, v = (leaf.transpose(1, 2) for leaf in leaves)
    mask = masks(3, 4, 23)[kind]
    weight = torch.randn(3, 23, 4, 8, dtype=torch.float64)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3).transpose(1, 2)
    expected_grads = torch.autograd.grad((expected * weight).sum(), leaves)
    result = block_attention(q, k, v, mask, dropout=0.0, factor=0.3)
    grads = torch.autograd.grad((result * weight).sum(), leaves)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-12)
    for grad, expected_grad in zip(grads, expected_grads):
        torch.testing.assert_close(grad, expected_grad, atol=1e-12, rtol=1e-12)


def test_gradients_belong_to_the_shares_that_were_dropped():
    """Against differences of the function under the same draws; breaks if the backward pass drops others, or scales otherwise."""
    torch.manual_seed(1)
    q, k, v = (torch.randn(2, 3, 6, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = torch.rand(2, 1, 6, 6) < 0.8

    def same_draws(*tensors: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(7)
        return block_attention(*tensors, mask, dropout=0.4, factor=0.5)

    assert torch.autograd.gradcheck(same_draws, (q, k, v))


def test_keys_that_no_query_sees_are_not_multiplied(monkeypatch):
    """Of a padded row, nearly all of the work is its tokens'; breaks if blocks take all keys, which gives the same result."""
    monkeypatch.setattr(cpu_attention, "BLOCK_BYTES", 1)
    widths, torchs = [], torch.bmm

    def counted(left, right, **settings):
        widths.append(right.shape[2])
        return torchs(left, right, **settings)

    monkeypatch.setattr(torch, "bmm", counted)
    q, k, v = torch.randn(3, 2, 1, 50, 8)
    mask = (torch.arange(50) < torch.tensor([[50], [11]]))[:, None, None, :].expand(2, 1, 50, 50)
    block_attention(q, k, v, mask, dropout=0.0, factor=1.0)
    assert widths == [50, 8, 11, 8]


def test_a_learned_bias_gets_its_gradient_and_dropout_of_all_gives_zeros():
    """Neither is for the blocks: breaks if they take them, without a gradient and with a division by zero."""
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    learned = torch.zeros(2, 4, 10, 10, requires_grad=True)
    out, _ = attention_module.cpu_attention(Layer(), q, k, v, learned, is_causal=False)
    out.square().sum().backward()
    assert learned.grad is not None and learned.grad.abs().sum() > 0
    assert called(Layer(), None, dropout=1.0).abs().sum() == 0
