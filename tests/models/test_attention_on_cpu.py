"""The attention that trains on a CPU computes what transformers' own eager attention does."""

import math

import pytest
import torch
import torch.nn.functional as F
import zoo
from transformers import AutoModelForQuestionAnswering
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from qa_accel.models import attention as attention_module
from qa_accel.models.attention import bias

LENGTHS = (19, 7, 24)


class Layer(torch.nn.Module):
    """The attributes of a module that an attention function reads."""

    is_causal = False


def without_dropout(monkeypatch) -> None:
    monkeypatch.setattr(F, "dropout", lambda input, *args, **kwargs: input)
    monkeypatch.setattr(attention_module, "drop", lambda x, rate: x)


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
