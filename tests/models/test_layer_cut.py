"""A cut model is its layers, in the order given, and nothing else; what cannot be cut is refused before weights are read."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from torch import nn
from transformers import AutoConfig, AutoModelForQuestionAnswering, LongformerConfig, ModernBertConfig

from qa_accel.models import architectures, layer_cut, loading
from qa_accel.models.settings import LayerCutConfig, ModelConfig

REFUSED = {
    "albert": "share one set of weights",
    "bart": "an encoder and a decoder",
    "funnel": "blocks",
    "mbart": "an encoder and a decoder",
    "t5": "an encoder and a decoder",
}
SMALL: dict[str, Any] = dict(hidden_size=16, intermediate_size=16, vocab_size=50, num_attention_heads=2, pad_token_id=0)
KEPT = {"modernbert": (0, 2), "big_bird": (0, 1)}
"""ModernBERT's first layer has no norm before attention, so that only the order can stay as it is; BigBird's layers draw their
random blocks by their number, so that none can move."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function that gives the folder of a tiny model of three layers."""

    def make(name: str) -> Path:
        kind = zoo.KINDS[name]
        count = "n_layer" if name == "xlnet" else "num_hidden_layers"
        settings = kind.settings | ({} if name in REFUSED else {count: 3})
        changed = copy.copy(kind)
        object.__setattr__(changed, "settings", settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(zoo.KINDS, name, changed)
            return zoo.make(name, tmp_path_factory.mktemp(name))

    return make


def inputs_of(folder: Path) -> dict[str, torch.Tensor]:
    tokenizer = loading.load_tokenizer(ModelConfig(str(folder)))
    encoded = tokenizer("Where was Ana born?", "Ana was born in Bern.", return_tensors="pt")
    return {"input_ids": encoded["input_ids"]}  # type: ignore[dict-item]


def with_only(model: nn.Module, kept: tuple[int, ...]) -> nn.Module:
    """The loaded model itself, its list of layers replaced by a shorter one."""
    layers = list(architectures.layers(model).items())
    parent, name = layers[0][0].rpartition(".")[0].rpartition(".")[::2]
    setattr(model.get_submodule(parent), name, nn.ModuleList(layers[layer][1] for layer in kept))
    return model


@pytest.mark.parametrize("name", [name for name in zoo.KINDS if name not in REFUSED])
def test_a_saved_cut_model_loads_by_itself_and_computes_what_the_kept_layers_compute(saved, tmp_path, name):
    """Breaks if config.json keeps its number or kinds of layers, if a layer's weights go to another place, or if anything
    beside the layers is not taken over. The reference runs the whole model with a shortened list of layers."""
    folder, kept = saved(name), KEPT.get(name, (2, 0))
    settings = ModelConfig(str(folder))
    tokenizer, config = loading.load_tokenizer(settings), loading.load_model_config(settings, 64)
    cut = loading.load_model(settings, config, tokenizer, trained=True, keep_layers=kept).eval()
    cut.save_pretrained(tmp_path)
    reloaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path).eval()
    reference = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    assert reloaded.config.num_hidden_layers == 2
    assert len(architectures.layers(reloaded)) == 2
    inputs = inputs_of(folder)
    with torch.no_grad():
        found, whole = reloaded(**inputs), reference(**inputs)
        expected = with_only(reference, kept)(**inputs)
    torch.testing.assert_close(found.start_logits, expected.start_logits)
    torch.testing.assert_close(found.end_logits, expected.end_logits)
    assert not torch.allclose(expected.start_logits, whole.start_logits, atol=1e-3), "the third layer matters"


@pytest.mark.parametrize("name", REFUSED)
def test_architectures_without_layers_of_their_own_are_refused_with_the_reason(saved, name):
    """Breaks if such a model is cut to something else than was asked for. Only its config is read."""
    config = AutoConfig.from_pretrained(saved(name))
    with pytest.raises(ValueError, match=rf"--keep_layers 0: 'm' is of type '{name}'.*{REFUSED[name]}"):
        layer_cut.cut_config(config, (0,), "m")


def test_modernberts_first_layer_stays_the_first():
    """It has no norm before attention. Breaks if the mismatch is found by torch, after the weights were read."""
    config = ModernBertConfig(num_hidden_layers=4, **SMALL)
    for kept in ((1, 0), (1, 2)):
        with pytest.raises(ValueError, match=r"layers at these places differ in .*attn_norm"):
            layer_cut.cut_config(config, kept, "m")


def test_lists_with_an_entry_per_layer_are_cut_like_the_layers():
    """ModernBERT: every third layer sees all tokens. Breaks if the pattern is made again for the shorter model: the second of
    the layers 0, 3, 1 would see its neighbours only. Longformer: each layer has its own reach."""
    modern = ModernBertConfig(num_hidden_layers=6, **SMALL)
    assert modern.layer_types is not None and modern.layer_types[:4] == [
        "full_attention",
        "sliding_attention",
        "sliding_attention",
        "full_attention",
    ]
    kinds = layer_cut.cut_config(modern, (0, 3, 1), "m").layer_types
    assert kinds == ["full_attention", "full_attention", "sliding_attention"]
    longformer = LongformerConfig(num_hidden_layers=4, attention_window=[2, 4, 6, 8], **SMALL)
    assert layer_cut.cut_config(longformer, (3, 1), "m").attention_window == [8, 4]
    assert longformer.attention_window == [2, 4, 6, 8] and longformer.num_hidden_layers == 4, "the whole one stays"


@pytest.mark.parametrize(
    ("model_type", "settings", "setting"),
    [
        ("gpt2", dict(n_embd=16, n_head=2, n_layer=4, vocab_size=50, scale_attn_by_inverse_layer_idx=True), "scaling"),
        ("diffllama", dict(num_hidden_layers=4, num_key_value_heads=2, **SMALL), "lambda_init"),
        ("big_bird", dict(num_hidden_layers=4, **SMALL), "seed"),
    ],
)
def test_a_layer_that_computes_by_its_own_number_stays_at_its_place(model_type, settings, setting):
    """Layer 2 would become layer 0, with the same weights and another function. Breaks if only names and shapes of weights are
    compared; and if layers that stay are refused too."""
    config = AutoConfig.for_model(model_type, **settings)
    with pytest.raises(
        ValueError, match=rf"values that follow from its place: {setting} of \S*\.2\.\S* is .* would become"
    ):
        layer_cut.cut_config(config, (2, 3), "m")
    assert layer_cut.cut_config(config, (0, 1, 2), "m").num_hidden_layers == 3


def test_the_usual_gpt2_and_a_minimax():
    """GPT-2 scales by its layer's number only if its config says so. MiniMax, whose decay is a buffer, does always, and by the number
    of layers too. Breaks if the first is refused, or if the second passes because a buffer is no plain number."""
    gpt2 = AutoConfig.for_model("gpt2", n_embd=16, n_head=2, n_layer=4, vocab_size=50)
    assert layer_cut.cut_config(gpt2, (2, 3), "m").num_hidden_layers == 2
    minimax = AutoConfig.for_model("minimax", num_hidden_layers=4, num_key_value_heads=2, **SMALL)
    with pytest.raises(ValueError, match=r"'minimax'.*follows from a layer's number"):
        layer_cut.cut_config(minimax, (0, 1), "m")


def test_a_layer_that_sees_neighbours_only_does_so_at_its_new_place():
    """Qwen2 of the kinds full, full, sliding, sliding; kept are 3 and 0. The reference is the whole model with a list cut by hand.
    Breaks if the kinds stay at their places, or are made again from max_window_layers: the first would see everything."""
    settings = SMALL | dict(num_key_value_heads=2, max_position_embeddings=64)
    settings |= dict(use_sliding_window=True, sliding_window=4, max_window_layers=2)
    config = AutoConfig.for_model("qwen2", num_hidden_layers=4, **settings)
    full, sliding = "full_attention", "sliding_attention"
    assert config.layer_types == [full, full, sliding, sliding]
    torch.manual_seed(0)
    whole = AutoModelForQuestionAnswering.from_config(config).eval()
    with torch.no_grad():
        for weight in whole.parameters():
            weight.mul_(5)  # so that attention matters
    inputs = dict(input_ids=torch.arange(1, 21)[None], use_cache=False)
    cut = layer_cut.cut(copy.deepcopy(whole), (3, 0), "m")
    found = []
    for kinds in ([sliding, full], [full, full]):
        by_hand: Any = with_only(copy.deepcopy(whole), (3, 0))
        for part in (by_hand.config, by_hand.get_submodule("transformer").config):
            part.layer_types, part.num_hidden_layers = kinds, 2
        with torch.no_grad():
            found.append(by_hand(**inputs).start_logits)
    with torch.no_grad():
        torch.testing.assert_close(cut(**inputs).start_logits, found[0])
    assert not torch.allclose(found[0], found[1], atol=1e-3), "the kind matters"


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ((), "give the numbers of the layers"),
        ((0, 0), "named twice"),
        ((0, -1), "counted from 0; -1 is none"),
        ((0, 3), "'m' has 3 layers, numbered 0 to 2; 3 is none"),
    ],
)
def test_layers_that_are_not_there_are_refused(kept, message):
    """Breaks if -1 silently counts from the end, or if a repeated layer shares its weights with itself."""
    config = AutoConfig.for_model("bert", num_hidden_layers=3)
    with pytest.raises(ValueError, match=f"--keep_layers.*{message}"):
        layer_cut.cut_config(config, LayerCutConfig(kept).keep_layers or (), "m")
