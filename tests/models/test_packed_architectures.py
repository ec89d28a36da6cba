"""Which architectures can be packed, and which are refused by name."""

import pytest
from tiny_packed import tiny_config
from transformers import CONFIG_MAPPING, AutoModelForQuestionAnswering
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES

from qa_accel.models.architectures import ARCHITECTURES, Architecture, packed_support
from qa_accel.models.attention import use_packed_attention


@pytest.mark.parametrize("kind", ["deberta", "deberta-v2", "mpnet", "xlnet", "convbert", "splinter", "megatron-bert"])
def test_models_that_cannot_are_refused_by_name_and_with_the_reason(kind):
    model_config = CONFIG_MAPPING[kind]()
    supported, reason = packed_support(model_config)
    assert not supported
    assert reason == f"{kind} cannot be packed: {ARCHITECTURES[kind].not_packable}"


def test_untested_models_and_decoders_are_refused():
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
    with pytest.raises(ValueError, match=r"mpnet cannot be packed: .* use padded batches"):
        use_packed_attention(model)
    assert model.config._attn_implementation == before


def test_the_table_names_architectures_that_exist_and_none_twice():
    # A misspelt model type would be refused, or accepted, unnoticed.
    with pytest.raises(AssertionError):
        Architecture(packable=True, not_packable="a reason")
    newer = {"ultrabert", "jina_embeddings_v3"}  # than some versions of transformers that we allow
    known = set(MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES)
    packing = {name for name, row in ARCHITECTURES.items() if row.packable or row.not_packable}
    assert len(packing) > 30 and packing - known <= newer
    assert ARCHITECTURES.keys() - CONFIG_MAPPING.keys() <= newer
