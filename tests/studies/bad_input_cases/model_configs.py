"""config.json of a model: broken, of wrong fields, not that of the weights."""

import os
from typing import Any

from bad_input_cases.case import (
    Accepted,
    Case,
    Either,
    Expected,
    Refused,
    anything,
    predicts_as_usual,
    says,
)
from bad_input_cases.model_damage import DEEP, FOLDER, NAMED, config, content, gone, model_case, replaced


def cases() -> list[Case]:
    made: list[Case] = []
    name = "config.json"
    contents = {
        "broken": b'{"model_type": "bert"',
        "empty": b"",
        "NULs": bytes(600),
        "a list": b"[]",
        "null": b"null",
        "a string": b'"bert"',
        "an empty object": b"{}",
        "deep": DEEP,
        "not UTF-8": b'{"model_type": "b\xff"}',
        "UTF-16": '{"model_type": "bert"}'.encode("utf-16"),
        "integer of 5,000 digits": b'{"model_type": "bert", "hidden_size": ' + b"1" * 5000 + b"}",
    }
    for what, written in contents.items():
        made += model_case(f"config {what}", content(name, written), also_train=what in ("broken", "empty", "a list"))
    made += model_case("config missing", gone(name), also_train=True)
    made += model_case("config a folder", replaced(name, lambda path: path.mkdir()))
    made += model_case("config a FIFO", replaced(name, os.mkfifo))
    fields: dict[str, dict[str, Any]] = {
        "hidden size text": dict(hidden_size="32"),
        "hidden size negative": dict(hidden_size=-32),
        "hidden size 0": dict(hidden_size=0),
        "hidden size null": dict(hidden_size=None),
        "hidden size 32.5": dict(hidden_size=32.5),
        "layers negative": dict(num_hidden_layers=-1),
        "layers text": dict(num_hidden_layers="2"),
        "layers null": dict(num_hidden_layers=None),
        "heads 0": dict(num_attention_heads=0),
        "heads do not divide": dict(num_attention_heads=3),
        "activation unknown": dict(hidden_act="magic"),
        "activation a number": dict(hidden_act=3),
        "positions 0": dict(max_position_embeddings=0),
        "positions negative": dict(max_position_embeddings=-5),
        "positions text": dict(max_position_embeddings="128"),
        "positions 16": dict(max_position_embeddings=16),
        "vocabulary 0": dict(vocab_size=0),
        "vocabulary text": dict(vocab_size="many"),
        "vocabulary negative": dict(vocab_size=-1),
        "dropout 5": dict(hidden_dropout_prob=5),
        "dropout text": dict(hidden_dropout_prob="much"),
        "epsilon text": dict(layer_norm_eps="small"),
        "pad token huge": dict(pad_token_id=10**12),
        "pad token text": dict(pad_token_id="[PAD]"),
        "token types 0": dict(type_vocab_size=0),
        "model type unknown": dict(model_type="nobodys-model"),
        "model type a number": dict(model_type=3),
        "model type null": dict(model_type=None),
        "model type of a generator": dict(model_type="gemma"),
        "model type of pages": dict(model_type="layoutlm"),
        "model type of another family": dict(model_type="t5"),
        "dtype garbage": dict(dtype="float7"),
        "quantization garbage": dict(quantization_config={"quant_method": "magic"}),
        "quantization a string": dict(quantization_config="4bit"),
        "answer policy a list": dict(answer_policy=[1]),
        "answer policy text": dict(answer_policy={"null_score_diff_threshold": "low"}),
        "threshold text": dict(null_score_diff_threshold="low"),
        "threshold true": dict(null_score_diff_threshold=True),
        "threshold Infinity": dict(null_score_diff_threshold=float("inf")),
        "threshold nan": dict(null_score_diff_threshold=float("nan")),
        "threshold of 400 digits": dict(null_score_diff_threshold=10**400),
        "answer policy Infinity": dict(answer_policy={"null_score_diff_threshold": float("inf")}),
    }
    for what, changes in fields.items():
        made += model_case(f"config {what}", config(**changes), _expected(what))
    shapes = Refused(FOLDER, "bert.embeddings", "32", "48")
    vocabulary = Refused(FOLDER, "bert.embeddings.word_embeddings.weight")
    made += model_case(
        "config hidden size another", config(hidden_size=48, num_attention_heads=2), shapes, also_train=True
    )
    made += model_case("config vocabulary larger", config(vocab_size=5000), vocabulary, also_train=True)
    made += model_case("config layers one more", config(num_hidden_layers=3), NAMED)
    made += model_case("config layers one less", config(num_hidden_layers=1), Either(anything, (FOLDER,)))
    made += model_case("config intermediate size another", config(intermediate_size=80), NAMED)
    made += model_case(
        "config labels odd", config(id2label={"0": 3}, label2id="x"), Either(predicts_as_usual, (FOLDER,))
    )
    made += model_case("config unknown keys", config(note={"by": [1]}, answers=3), Accepted(predicts_as_usual))
    made += model_case("config architectures odd", config(architectures=[3]), Either(predicts_as_usual, (FOLDER,)))
    made += model_case(
        "config architectures of another head", config(architectures=["BertForMaskedLM"]), Accepted(predicts_as_usual)
    )
    made += model_case(
        "config answer policy of unknown keys", config(answer_policy={"later": 1}), Accepted(says("later"))
    )
    return made


def _expected(what: str) -> Expected:
    """Fields that change nothing of what is computed may be passed over."""
    harmless = (
        "dropout",
        "layers null",
        "dtype",
        "quantization",
        "epsilon",
        "pad token",
        "positions 0",
        "positions negative",
        "positions text",
        "model type null",
    )
    if what.startswith(harmless):
        return Either(predicts_as_usual, (FOLDER,))
    if what == "positions 16":
        return Refused(FOLDER, "max_seq_length")
    return NAMED
