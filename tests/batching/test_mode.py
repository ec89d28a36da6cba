"""Which attention a run gets, and that all that run here compute the same."""

from typing import Any

import pytest
import torch
import zoo
from transformers import AutoConfig, AutoModelForQuestionAnswering

from qa_accel.batching import mode
from qa_accel.batching.mode import choose_attention
from qa_accel.batching.settings import BatchingConfig

CPU: Any = dict(device="cpu", precision="no", training=False)
GPU: Any = dict(device="cuda", precision="bf16", training=True)


def attention_of(requested: str, kind: str, **run: Any) -> str | None:
    return choose_attention(requested, AutoConfig.for_model(kind), **run)[0]


def test_auto_takes_the_best_that_is_there(monkeypatch):
    """The package flash_attn is not installed here: its presence is a switch of the test. Breaks if auto takes what the
    model does not offer, or flash attention in fp32."""
    assert attention_of("auto", "bert", **GPU) == "sdpa"
    assert attention_of("auto", "bert", **CPU) == "sdpa"
    assert attention_of("auto", "bert", **CPU | dict(training=True)) == "cpu"
    assert attention_of("auto", "deberta-v2", **GPU) is None
    monkeypatch.setattr(mode, "is_flash_attn_2_available", lambda: True)
    assert attention_of("auto", "bert", **GPU) == "flash_attention_2"
    assert attention_of("auto", "t5", **GPU) == "sdpa", "T5 has no flash attention"
    assert attention_of("auto", "bert", **GPU | dict(precision="no")) == "sdpa"
    assert attention_of("auto", "bert", **CPU) == "sdpa"


@pytest.mark.parametrize(
    ("requested", "kind", "run", "said"),
    [
        ("sdpa", "deberta-v2", CPU, "deberta-v2 does not offer it in transformers; it has eager"),
        ("flash_attention_2", "t5", GPU, "t5 does not offer it in transformers; it has eager, sdpa, flex_attention"),
        ("flash_attention_2", "bert", CPU, "needs a CUDA device and bf16 or fp16; this run is fp32 on cpu"),
        ("flash_attention_2", "bert", GPU, "package flash_attn is not installed"),
        ("flex_attention", "bert", CPU, "kernels are made for CUDA, this run is on cpu"),
    ],
)
def test_a_requested_attention_that_cannot_run_is_refused_with_the_reason(requested, kind, run, said):
    with pytest.raises(ValueError, match=f"--attn_implementation {requested}: .*{said}"):
        attention_of(requested, kind, **run)


def on_a_gpu(monkeypatch, capability: tuple[int, int]) -> None:
    """What torch reports of such a GPU, although there is none."""
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)


def test_packed_batches_keep_their_own_attention_and_a_requested_one_makes_them_padded(monkeypatch):
    on_a_gpu(monkeypatch, (8, 0))
    bert, gpu = AutoConfig.for_model("bert"), dict(device="cuda", precision="bf16")
    assert mode.choose(BatchingConfig(), bert, **gpu).packed
    requested = mode.choose(BatchingConfig(attn_implementation="sdpa"), bert, **gpu)
    assert (
        not requested.packed
        and requested.attention == "sdpa"
        and "--attn_implementation sdpa was requested" in requested.reason
    )
    with pytest.raises(ValueError, match="packed ones have their own attention"):
        mode.choose(BatchingConfig("packed", "eager"), bert, **gpu)


def test_a_gpu_that_cannot_run_the_packed_kernel_gets_padded_batches(monkeypatch):
    """Breaks if a run on a V100 or T4 ends in the kernel's own error, once all data is prepared."""
    on_a_gpu(monkeypatch, (7, 5))
    bert: Any = AutoConfig.for_model("bert")
    for precision in ("fp16", "bf16"):
        gpu = dict(device="cuda", precision=precision)
        chosen = mode.choose(BatchingConfig(), bert, **gpu)
        assert not chosen.packed and "needs a GPU from Ampere on" in chosen.reason
        with pytest.raises(ValueError, match=r"--batching packed: .* Ampere .*; take --batching padded"):
            mode.choose(BatchingConfig("packed"), bert, **gpu)
    fp32 = dict(device="cuda", precision="no")
    assert mode.choose(BatchingConfig("packed"), bert, **fp32).packed, "the reference attention runs anywhere"


def test_a_model_that_autocast_breaks_is_refused_in_half_precision_by_name():
    """Breaks if xmod ends at its first step with an error about dtypes."""
    xmod, config = AutoConfig.for_model("xmod"), BatchingConfig()
    with pytest.raises(ValueError, match=r"xmod cannot run in bf16: .*--mixed_precision no"):
        mode.choose(config, xmod, **dict(device="cpu", precision="bf16"))
    assert not mode.choose(config, xmod, **dict(device="cpu", precision="no")).packed


@pytest.mark.parametrize("kind", ["bert", "gpt2", "modernbert", "qwen3", "t5"])
def test_attentions_that_run_on_a_cpu_give_the_same_logits(kind, tmp_path):
    """Through `set_up`, on a padded batch. Breaks if the choice does not reach the model, or if one of them sees padding.
    Flash and flex attention need a GPU and are not run here."""
    folder = zoo.make(kind, tmp_path)
    tokens = torch.arange(24).repeat(2, 1) + 5
    mask = torch.ones_like(tokens)
    mask[1, 15:] = 0
    logits = {}
    for name in ("eager", "sdpa"):
        model = mode.BatchingMode(False, "a test's", name).set_up(
            AutoModelForQuestionAnswering.from_pretrained(folder).eval()
        )
        assert model.config._attn_implementation == name
        with torch.no_grad():
            logits[name] = model(input_ids=tokens, attention_mask=mask).start_logits[mask.bool()]
    assert logits["eager"].std() > 0.1
    torch.testing.assert_close(logits["eager"], logits["sdpa"], atol=2e-5, rtol=1e-4)
