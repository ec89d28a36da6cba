"""Packed rows give the logits and gradients of padded ones; what cannot is refused by name."""

import copy
import inspect
from itertools import pairwise
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn.functional import scaled_dot_product_attention
from transformers import CONFIG_MAPPING, AutoModelForQuestionAnswering, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES

from qa_accel import attention
from qa_accel.attention import PROVEN, REFUSED, packed_support, reference_attention, use_packed_attention
from qa_accel.batches import Batch, PackedCollator, PaddedCollator, span_loss, window_logits
from qa_accel.windows import Windows

PAD = 1
VOCABULARY = 90
# Ragged, from hardly a window to more than the local attention of the models below reaches (8 tokens to either side).
LENGTHS = [5, 60, 33, 4, 47, 24]
INDEX = np.array([4, 0, 1, -1, 3, 2, 5])  # one entry holds nothing
ROW_TOKENS, MAX_LENGTH = 256, 64  # the tail of 83 tokens needs two fillers

TINY = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_LENGTH + PAD + 1,
    "pad_token_id": PAD,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "cls_token_id": 0,
    "sep_token_id": 2,
    "initializer_range": 0.2,  # ten times the usual one: logits that differ enough for a leak to show
}
OF_THEIR_OWN = {
    "albert": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "mobilebert": {
        "embedding_size": 16,
        "intra_bottleneck_size": 32,
        "true_hidden_size": 32,
        "initializer_range": 0.1,  # nothing is normalized in it: wider weights grow from layer to layer
    },
    "modernbert": {"local_attention": 16, "global_attn_every_n_layers": 2},
    "ultrabert": {
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "num_key_value_heads": 2,
        "head_dim": 8,
    },
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}


def tiny_config(kind: str, **changed) -> PretrainedConfig:
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {kind}")
    return CONFIG_MAPPING[kind](**{**TINY, **OF_THEIR_OWN.get(kind, {}), **changed})


def tiny_model(model_config: PretrainedConfig, attention: str, seed: int = 0) -> PreTrainedModel:
    """Random weights from the seed, no dropout. The padding's embedding is no zero: published models have none there."""
    torch.manual_seed(seed)
    model = AutoModelForQuestionAnswering.from_config(copy.deepcopy(model_config), attn_implementation="eager").eval()
    with torch.no_grad():
        model.get_input_embeddings().weight[PAD].normal_()
    if attention == "packed":
        use_packed_attention(model)
    else:
        model.set_attn_implementation(attention)
    return model


def windows_of(lengths: list[int], seed: int = 0) -> Windows:
    """Random tokens; the second half of each window has type 1 and holds the answer."""
    rng = np.random.default_rng(seed)
    begin_W = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    length_W = np.array(lengths, np.int32)
    return Windows(
        input_ids_N=rng.integers(3, VOCABULARY, begin_W[-1]).astype(np.int32),
        token_type_ids_N=np.concatenate([np.arange(n) >= n // 2 for n in lengths]).astype(np.uint8),
        offset_start_N=np.zeros(begin_W[-1], np.int32),
        offset_end_N=np.zeros(begin_W[-1], np.int32),
        begin_W=begin_W,
        question_W=np.arange(len(lengths), dtype=np.int32),
        context_begin_W=length_W // 2,
        context_end_W=length_W,
        null_W=np.zeros_like(length_W),
        start_W=length_W // 2,
        end_W=length_W - 1,
    )


def packed_batch(model_config: PretrainedConfig, windows: Windows, index_B: np.ndarray = INDEX) -> Batch:
    needs = PROVEN[model_config.model_type]
    collate = PackedCollator(
        windows,
        row_tokens=ROW_TOKENS,
        max_length=MAX_LENGTH,
        pad_token_id=PAD,
        position_offset=needs.position_offset(model_config),
        token_type_ids=takes_token_types(model_config),
    )
    return collate(index_B)


def padded_batch(model_config: PretrainedConfig, windows: Windows) -> Batch:
    # Rows of MAX_LENGTH: each window has padding behind it.
    collate = PaddedCollator(
        windows, pad_token_id=PAD, token_type_ids=takes_token_types(model_config), pad_to_multiple_of=MAX_LENGTH
    )
    return collate(INDEX)


def takes_token_types(model_config: PretrainedConfig) -> bool:
    return PROVEN[model_config.model_type].token_types and model_config.type_vocab_size > 1


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
@pytest.mark.parametrize("kind", sorted(PROVEN))
def test_packed_logits_loss_and_gradients_equal_padded_ones(kind, way, monkeypatch):
    # What a kind must pass to stand in PROVEN. Breaks if its positions begin elsewhere, if it drops cu_seq_lens on the
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


@pytest.mark.parametrize("kind", sorted(PROVEN))
def test_a_window_does_not_see_its_neighbours(kind):
    model_config = tiny_config(kind)
    assert change_elsewhere(tiny_model(model_config, "packed"), model_config) == 0


@pytest.mark.parametrize("kind", ["bert", "modernbert", "mobilebert"])
def test_without_packed_attention_a_window_does_see_its_neighbours(kind):
    # What the test above must be able to find: transformers itself takes a row for one sequence.
    model_config = tiny_config(kind)
    assert change_elsewhere(tiny_model(model_config, "sdpa"), model_config) > 0.01


def test_mobilebert_needs_more_than_the_attention_function():
    # It embeds each token with its two neighbours: what use_packed_attention does about it is not for nothing.
    model_config = tiny_config("mobilebert")
    half_way = tiny_model(model_config, "eager")
    half_way.set_attn_implementation("packed")
    assert change_elsewhere(half_way, model_config) > 0.01


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_the_cuda_kernel_gets_what_it_documents(kind, monkeypatch):
    # No kernel runs here: its place is taken by its documentation (rows of (T, heads, d), windows [i - left, i + right],
    # -1 for no limit), one window after the other. Breaks if axes, scale or reach are handed over otherwise.
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
    # Fill and most fillers have no tokens. What a softmax over nothing gives hangs on the kernel: zeros here, NaN there,
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


def test_a_padded_batch_is_no_food_for_a_packed_model():
    # Without boundaries it would take the batch's first row for all, in silence.
    model_config = tiny_config("bert")
    with pytest.raises(AssertionError, match="PackedCollator"):
        tiny_model(model_config, "packed")(**padded_batch(model_config, windows_of(LENGTHS)).inputs)


@pytest.mark.parametrize("kind", ["deberta", "deberta-v2", "mpnet", "xlnet", "convbert", "splinter", "megatron-bert"])
def test_models_that_cannot_are_refused_by_name_and_with_the_reason(kind):
    model_config = CONFIG_MAPPING[kind]()
    supported, reason = packed_support(model_config)
    assert not supported
    assert reason == f"{kind} cannot: {REFUSED[kind]}"


def test_models_that_nobody_tried_and_decoders_are_refused():
    assert packed_support(CONFIG_MAPPING["llama"]()) == (
        False,
        "llama is not among the architectures whose packed logits were shown to equal the padded ones",
    )
    supported, reason = packed_support(CONFIG_MAPPING["bert"](is_decoder=True))
    assert not supported and "is_decoder" in reason
    assert packed_support(CONFIG_MAPPING["bert"]()) == (True, "bert gives the same logits packed and padded")


def test_use_of_packed_attention_is_refused_before_anything_is_changed():
    model = AutoModelForQuestionAnswering.from_config(tiny_config("mpnet"))
    before = model.config._attn_implementation
    with pytest.raises(ValueError, match=r"mpnet cannot: .* use padded batches"):
        use_packed_attention(model)
    assert model.config._attn_implementation == before


def test_the_tables_name_architectures_that_exist_and_none_twice():
    # A misspelt kind would be refused, or let through, for ever unseen.
    assert not PROVEN.keys() & REFUSED.keys()
    known = set(MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES)
    missing = (PROVEN.keys() | REFUSED.keys()) - known
    assert missing <= {"ultrabert", "jina_embeddings_v3"}, "newer than some versions of transformers that we allow"


def compiled_loss(kind: str, backend: str) -> list[tuple[float, float]]:
    """(compiled, eager) loss of four packed batches of other lengths, one of them half empty, one all fill.

    Raises if a batch after the first compiles anything, or if the graph breaks.
    """
    layers = {"modernbert": 2, "ultrabert": 3}.get(kind, 1)  # one of each sort
    model_config = tiny_config(kind, **{"n_layers" if kind == "distilbert" else "num_hidden_layers": layers})
    model = tiny_model(model_config, "packed")

    def loss_of(batch: Batch) -> torch.Tensor:
        output = model(**batch.inputs)
        return span_loss(output.start_logits, output.end_logits, batch)

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


@pytest.mark.parametrize("kind", sorted(PROVEN))
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
