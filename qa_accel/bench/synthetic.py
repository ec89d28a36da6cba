"""Model shapes, windows and candidates without any data: what the bench runs on.

Lengths are drawn like SQuAD's; tokens, answers and scores are random, since content does not affect speed.
"""

import copy
from typing import Any

import datasets
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForQuestionAnswering, PretrainedConfig, PreTrainedModel

from qa_accel.data.windows import Windows
from qa_accel.inference.postprocess import Candidates

SHAPES: dict[str, dict[str, Any]] = {
    "minilm": {"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    "distilbert": {"model_type": "distilbert"},
    "bert-base": {"model_type": "bert"},
    "bert-large": {
        "model_type": "bert",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "modernbert-base": {"model_type": "modernbert"},
}
"""What differs from the defaults of transformers' config of that type."""

SQUAD_LENGTHS = (38, 83, 109, 119, 126, 131, 137, 143, 148, 152, 158, 164, 171, 180, 188, 198, 213, 230, 257, 298, 384)
"""Tokens of a window, every fifth percentile: 5,000 questions of SQuAD v2 at 384/128, uncased WordPiece."""


def model_config(name: str) -> PretrainedConfig:
    shape = dict(SHAPES[name])
    return AutoConfig.for_model(shape.pop("model_type"), **shape)


def make_model(config: PretrainedConfig) -> PreTrainedModel:
    """Random weights, fp32, the same each time."""
    torch.manual_seed(0)
    # a copy: setting a model's attention changes its config, and the next model must not get it
    return AutoModelForQuestionAnswering.from_config(copy.deepcopy(config), dtype=torch.float32)


def squad_like_lengths(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) int64, tokens of windows."""
    percentiles = np.linspace(0, 1, len(SQUAD_LENGTHS))
    return np.interp(rng.random(count), percentiles, SQUAD_LENGTHS).astype(np.int64)


def squad_like_windows(count: int, vocab_size: int, seed: int = 0) -> Windows:
    """`count` windows, one question each: CLS, 12 tokens of question, SEP, context, SEP; two thirds hold an answer."""
    rng = np.random.default_rng(seed)
    lengths_W = squad_like_lengths(count, rng)
    begin_W = np.concatenate([[0], np.cumsum(lengths_W)])
    place_N = np.arange(begin_W[-1]) - np.repeat(begin_W[:-1], lengths_W)
    context_begin_W = np.full(count, 14, np.int32)
    context_end_W = (lengths_W - 1).astype(np.int32)
    in_context_N = (place_N >= 14) & (place_N < np.repeat(context_end_W, lengths_W))
    character_N = np.where(in_context_N, (place_N - 14) * 6, 0)  # words of five letters and a blank
    start_W = 14 + (rng.random(count) * (context_end_W - 14)).astype(np.int32)
    end_W = np.minimum(start_W + rng.integers(0, 5, count), context_end_W - 1).astype(np.int32)
    answered_W = rng.random(count) < 0.67
    zeros_W = np.zeros(count, np.int32)
    return Windows(
        input_ids_N=rng.integers(1000, vocab_size, len(place_N), dtype=np.int32),
        token_type_ids_N=(place_N >= 14).astype(np.uint8),
        offset_start_N=character_N.astype(np.int32),
        offset_end_N=np.where(in_context_N, character_N + 5, 0).astype(np.int32),
        begin_W=begin_W,
        question_W=np.arange(count, dtype=np.int32),
        context_begin_W=context_begin_W,
        context_end_W=context_end_W,
        null_W=zeros_W,
        start_W=np.where(answered_W, start_W, 0).astype(np.int32),
        end_W=np.where(answered_W, end_W, 0).astype(np.int32),
        question_cut_Q=np.zeros(count, bool),
        question_tokens_Q=np.zeros(count, np.int32),
    )


def random_answers(windows: Windows, n_best: int = 20, seed: int = 0) -> tuple[datasets.Dataset, Candidates]:
    """Questions that such windows could come from, and the n best spans of each window with random scores."""
    rng = np.random.default_rng(seed)
    count = len(windows)
    words_W = windows.context_end_W - windows.context_begin_W
    contexts = [" ".join(["words"] * int(words)) for words in words_W]
    answers = [
        {"text": ["words"], "answer_start": [0]} if row % 2 else {"text": [], "answer_start": []}
        for row in range(count)
    ]
    questions = datasets.Dataset.from_dict(
        {
            "id": [f"{row:024d}" for row in range(count)],
            "question": ["Which words?"] * count,
            "context": contexts,
            "answers": answers,
        }
    )
    start_WK = windows.context_begin_W[:, None] + (rng.random((count, n_best)) * words_W[:, None]).astype(np.int32)
    end_WK = np.minimum(start_WK + rng.integers(0, 8, (count, n_best)), windows.context_end_W[:, None] - 1)
    return questions, Candidates(
        *rng.normal(size=(4, count)).astype(np.float32),
        start_WK=start_WK.astype(np.int32),
        end_WK=end_WK.astype(np.int32),
        start_logit_WK=rng.normal(size=(count, n_best)).astype(np.float32),
        end_logit_WK=rng.normal(size=(count, n_best)).astype(np.float32),
    )


def training_flops(config: PretrainedConfig, lengths: np.ndarray) -> int:
    """Multiplications and additions of a forward and a backward pass over windows of these lengths, padding not counted.

    Two per weight of the layers and token, four per pair of tokens and width in attention; the backward pass is twice that.
    """
    hidden, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "hidden_dim", None) or config.intermediate_size
    gated = config.model_type == "modernbert"  # its MLP has two input matrices
    weights = layers * (4 * hidden * hidden + (3 if gated else 2) * hidden * inner)
    tokens, pairs = int(lengths.sum()), int((lengths.astype(np.int64) ** 2).sum())
    return 3 * (2 * weights * tokens + 4 * layers * hidden * pairs)
