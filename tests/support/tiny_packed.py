"""A kind of model that can be packed -> a tiny one with random weights, and ragged windows for it, packed and padded."""

import copy

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForQuestionAnswering, PretrainedConfig, PreTrainedModel

from qa_accel.batching.collate import Batch, PackedCollator, PaddedCollator
from qa_accel.data.windows import Windows
from qa_accel.models import architectures
from qa_accel.models.attention import use_packed_attention

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
}


def tiny_config(kind: str, **changed) -> PretrainedConfig:
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {kind}")
    return CONFIG_MAPPING[kind](**{**TINY, **OF_THEIR_OWN.get(kind, {}), **changed})


def tiny_model(model_config: PretrainedConfig, attention: str, seed: int = 0) -> PreTrainedModel:
    """Random weights from the seed, no dropout. The padding's embedding is not zero, as in published models."""
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
    collate = PackedCollator(
        windows,
        row_tokens=ROW_TOKENS,
        max_length=MAX_LENGTH,
        pad_token_id=PAD,
        position_offset=architectures.first_position(model_config),
        token_type_ids=architectures.takes_token_types(model_config),
    )
    return collate(index_B)


def padded_batch(model_config: PretrainedConfig, windows: Windows) -> Batch:
    # Rows of MAX_LENGTH: each window is followed by padding.
    collate = PaddedCollator(
        windows,
        pad_token_id=PAD,
        token_type_ids=architectures.takes_token_types(model_config),
        pad_to_multiple_of=MAX_LENGTH,
    )
    return collate(INDEX)
