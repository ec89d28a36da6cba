"""Every architecture of the zoo through the real training script; what cannot work is refused before data is touched.

`python tests/studies/model_matrix.py` prints the same as a table.
"""

import json
import re

import pytest
import torch
import zoo
from model_matrix import generated_tables, row_of, rows_of
from transformers import AutoConfig, AutoModelForQuestionAnswering

from qa_accel.models import architectures, loading
from qa_accel.models.settings import ModelConfig

FIXED_WIDTH = {name for name, row in architectures.ARCHITECTURES.items() if row.fixed_width}
ROWS = [(name, batches) for name in zoo.KINDS for batches in rows_of(name)]


@pytest.mark.parametrize(("name", "batches"), ROWS)
def test_an_architecture_is_trained_resumed_and_answers_as_the_slow_decoder_does(name, batches, tmp_path):
    """Two ranks. Breaks if a parameter without gradient stops DDP, if padding on some side or of some width changes what a
    window's logits are, if the null score is read elsewhere than where the family has its CLS, or if a resumed run differs."""
    row = row_of(name, tmp_path, batches=batches)
    assert row.reason == ""
    kind = zoo.KINDS[name]
    assert row.token_types == ("yes" if kind.types else "no")
    assert row.null.startswith(kind.null)


def test_the_page_of_models_follows_from_the_table_of_architectures(repository):
    """Breaks if a reason or a model type changes in the table but not in docs/models.md: print it with --tables."""
    page = (repository / "docs" / "models.md").read_text(encoding="utf-8")
    tables = generated_tables()
    assert len(tables) == 5
    for heading, text in tables.items():
        assert f"### {heading}\n\n{text}\n" in page, heading


def test_the_matrix_on_the_page_has_every_row_and_the_list_all_other_packable_types(repository):
    """Breaks if an architecture is declared packable and appears nowhere, or a row of the matrix was never measured."""
    page = (repository / "docs" / "models.md").read_text(encoding="utf-8")
    measured = re.findall(r"^\| (\S+) \| (padded|packed) \| .* \| yes \| yes \| yes \|$", page, re.MULTILINE)
    assert measured == ROWS
    in_matrix = {zoo.KINDS[name].model_type or name for name, batches in measured if batches == "packed"}
    [listed] = re.findall(r"not in the matrix: (.*)\.$", page, re.MULTILINE)
    assert in_matrix | set(listed.split(", ")) == set(architectures.PACKABLE)
    assert not in_matrix & set(listed.split(", "))


@pytest.mark.parametrize("name", ["fnet", "funnel", "big_bird"])
def test_architectures_with_rows_of_a_fixed_width_need_them(name, tmp_path):
    """Shows that the table of these is not there for nothing: more columns of padding, and other logits."""
    folder = zoo.make(name, tmp_path)
    qa_model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    wide, narrow = (_logits(qa_model, folder, width) for width in (56, 17))
    assert (narrow - wide).abs().max() > 0.01


@pytest.mark.parametrize("name", sorted(zoo.KINDS.keys() - FIXED_WIDTH))
def test_all_others_have_the_same_logits_however_far_a_row_is_padded(name, tmp_path):
    """Breaks if an architecture belongs into the table and is not there."""
    folder = zoo.make(name, tmp_path)
    qa_model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    wide, narrow = (_logits(qa_model, folder, width) for width in (56, 24))
    assert (narrow - wide).abs().max() < 1e-4


def _logits(qa_model, folder, width):
    """Start logits of one window's tokens, padded to so many columns on the side that the package takes."""
    tokenizer = loading.load_tokenizer(ModelConfig(str(folder)))
    encoded = tokenizer("Where was Ana born?", "Ana was born in Bern. Ana keeps a goat.")
    ids = encoded["input_ids"]
    side = architectures.padding_side(qa_model.config, tokenizer)
    before = width - len(ids) if side == "left" else 0
    after = width - len(ids) - before
    inputs = {
        "input_ids": [loading.padding_id(tokenizer)] * before + ids + [loading.padding_id(tokenizer)] * after,
        "attention_mask": [0] * before + [1] * len(ids) + [0] * after,
    }
    if side == "left" and "position_ids" in loading.ModelInputs.of(qa_model).names:
        inputs["position_ids"] = [0] * before + list(range(len(ids) + after))
    with torch.no_grad():
        output = qa_model(**{name: torch.tensor([row]) for name, row in inputs.items()})
    return output.start_logits[0, before : before + len(ids)]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("layoutlm", "every token needs its box on the page"),
        ("layoutlmv2", "every token needs its box on the page"),
        ("layoutlmv3", "every token needs its box on the page"),
        ("lilt", "every token needs its box on the page"),
        ("lxmert", "features of image regions"),
        ("markuplm", "place in the page's tree"),
        ("gemma", "no question answering head"),
        ("blenderbot", "no question answering head"),
    ],
)
def test_heads_that_text_is_not_enough_for_are_refused_from_the_config_alone(kind, reason, tmp_path):
    """No weights, no tokenizer, no data are there. LiLT and LayoutLMv3 would take plain text without a word."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ValueError, match=reason) as refused:
        loading.load_model_config(ModelConfig(str(tmp_path)), 64)
    assert str(tmp_path) in str(refused.value) and repr(kind) in str(refused.value)


def test_a_longformer_with_another_families_tokenizer_is_refused(tmp_path):
    """Its head counts three separators in each window and raises in the middle of a run where it finds others."""
    settings = ModelConfig(str(zoo.make("longformer", tmp_path / "whole")))
    config = loading.load_model_config(settings, 64)
    architectures.check_pair(config, loading.load_tokenizer(settings))
    with pytest.raises(ValueError, match="exactly 3 separators"):
        architectures.check_pair(config, zoo.tokenizer_of("bert"))


def test_encoder_decoders_are_padded_on_the_right_whatever_their_tokenizer_says():
    """Their decoder is given no mask: it would read what is padded on the left."""
    tokenizer = zoo.tokenizer_of("t5")
    tokenizer.padding_side = "left"
    assert architectures.padding_side(AutoConfig.for_model("t5"), tokenizer) == "right"
    assert architectures.padding_side(AutoConfig.for_model("bert"), tokenizer) == "left"


@pytest.mark.parametrize(
    ("name", "frozen"),
    [("fnet", 2), ("squeezebert", 2), ("xlnet", 1), ("bert", 0), ("t5", 0)],
)
def test_only_parameters_without_a_gradient_are_frozen(name, frozen, tmp_path):
    """Breaks if a parameter that is used is frozen, or one that is not used is left to DDP."""
    settings = ModelConfig(str(zoo.make(name, tmp_path)))
    tokenizer = loading.load_tokenizer(settings)
    qa_model = loading.load_model(settings, loading.load_model_config(settings, 64), tokenizer)
    names = {key for key, parameter in qa_model.named_parameters() if not parameter.requires_grad}
    assert len(names) == frozen
    qa_model.requires_grad_(True)
    output = qa_model(**tokenizer("Where was Ana born?", "Ana was born in Bern.", return_tensors="pt"))
    (output.start_logits.square().sum() + output.end_logits.square().sum()).backward()
    assert {key for key, parameter in qa_model.named_parameters() if parameter.grad is None} == names


@pytest.mark.parametrize(
    ("family", "kind", "said"),
    [
        ("bert", "bert", '[CLS] represents "no answer"; rows are filled on the right with [PAD]'),
        ("xlnet", "xlnet", '<cls> represents "no answer"; rows are filled on the left with <pad>'),
        (
            "gpt2",
            "gpt2",
            'the first token represents "no answer"; rows are filled on the right with <|endoftext|>, '
            "as there is no pad token",
        ),
    ],
)
def test_the_console_names_the_no_answer_token_and_what_fills_a_row(family, kind, said):
    tokenizer = zoo.tokenizer_of(family)
    described = architectures.describe_tokens(tokenizer, AutoConfig.for_model(kind), loading.padding_id(tokenizer))
    assert described == said
