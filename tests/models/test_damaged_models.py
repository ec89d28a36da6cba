"""A damaged or odd model folder ends in one ValueError that names the folder and what is wrong; what is only odd loads.

Every damage is made from a tiny model in a folder of its own, and loaded as `predict.py` and `Reader` load it.
"""

import shutil
from pathlib import Path

import pytest
import torch
import zoo
from model_damages import (
    DEEP,
    Damage,
    config,
    cut,
    fifo,
    keys,
    load,
    one_message,
    payload,
    raw,
    sharded,
    text,
    weights,
    without,
)
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForQuestionAnswering, Qwen3MoeConfig


def set_value(name: str, place: tuple[int, ...], value: float) -> Damage:
    return weights(lambda found: found[name].__setitem__(place, value))


def shards_outside(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder.parent / "other.safetensors")
    sharded({"metadata": {}, "weight_map": {"qa_outputs.weight": "../other.safetensors"}})(folder)


EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
HEAD = "qa_outputs.weight"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "config a list": (text("config.json", "[1]"), r"config.json holds \[1\]; a mapping is expected"),
    "config null": (text("config.json", "null"), "config.json holds None; a mapping is expected"),
    "config a number": (text("config.json", "3"), "config.json holds 3"),
    "config a text": (text("config.json", '"bert"'), "config.json holds 'bert'"),
    "config deep": (text("config.json", DEEP), "config.json is nested too deeply"),
    "config deep within": (text("config.json", f'{{"model_type": "bert", "x": {DEEP}}}'), "nested too deeply"),
    "config empty": (text("config.json", ""), "config.json is broken JSON at line 1"),
    "config empty object": (text("config.json", "{}"), "config.json has no 'model_type'"),
    "config cut": (cut("config.json", 0.5), "config.json is broken JSON at line"),
    "config garbage": (raw("config.json", b"\x00\x01\x02" * 50), "config.json is broken JSON at line 1"),
    "config not UTF-8": (raw("config.json", b'{"model_type": "\xff"}'), "config.json is not UTF-8 at byte 16"),
    "config of UTF-16": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-16"),
        "config.json is not UTF-8",
    ),
    "config with an endless integer": (
        text("config.json", '{"model_type": "bert", "x": ' + "9" * 5000 + "}"),
        "config.json cannot be read",
    ),
    "config a FIFO": (fifo("config.json"), "'config.json' is a FIFO"),
    "config missing": (without("config.json"), "config.json"),
    "config a folder": (
        lambda folder: ((folder / "config.json").unlink(), (folder / "config.json").mkdir()),
        "config.json",
    ),
    "model type unknown": (config(model_type="garbage"), "garbage"),
    "model type a number": (config(model_type=7), "7"),
    "model type a list": (config(model_type=["bert"]), "list"),
    "hidden size text": (config(hidden_size="32"), "hidden_size"),
    "hidden size negative": (config(hidden_size=-32), "-32"),
    "hidden size 0": (config(hidden_size=0), "ZeroDivisionError"),
    "hidden size another": (config(hidden_size=48), r"\(\d+, 32\) in the file, \(\d+, 48\) by config.json"),
    "intermediate size another": (config(intermediate_size=65), r"\(64, 32\) in the file, \(65, 32\) by config.json"),
    "more layers": (config(num_hidden_layers=3), "no weights for 16 tensors of bert: bert.encoder.layer.2"),
    "layers text": (config(num_hidden_layers="two"), "num_hidden_layers"),
    "heads do not divide": (config(num_attention_heads=3), "not a multiple of the number of attention heads"),
    "heads 0": (config(num_attention_heads=0), "ZeroDivisionError"),
    "activation unknown": (config(hidden_act="garbage"), "garbage"),
    "activation a number": (config(hidden_act=5), "5"),
    "dropout 2": (config(hidden_dropout_prob=2.0), "dropout"),
    "epsilon text": (config(layer_norm_eps="small"), "layer_norm_eps"),
    "positions 0": (config(max_position_embeddings=0), "position"),
    "positions text": (config(max_position_embeddings="many"), "max_position_embeddings"),
    "positions fewer": (config(max_position_embeddings=100), r"\(128, 32\) in the file, \(100, 32\)"),
    "positions fewer than a window": (config(max_position_embeddings=10), "--max_seq_length 64 is more than the 10"),
    "dtype garbage": (config(dtype="float33"), "float33"),
    "pad token beyond the vocabulary": (config(pad_token_id=10**6), "adding_idx"),
    "pad token text": (config(pad_token_id="zero"), "pad_token_id"),
    "vocabulary smaller": (config(vocab_size=20), rf"{EMBEDDINGS} has the shape \(\d+, 32\) in the file, \(20, 32\)"),
    "vocabulary larger": (config(vocab_size=10**4), rf"{EMBEDDINGS} has the shape \(\d+, 32\) in the file, \(10000,"),
    "vocabulary text": (config(vocab_size="all"), "vocab_size"),
    "vocabulary null": (text("config.json", '{"model_type": "bert", "vocab_size": null}'), "vocab_size"),
    "token types 0": (config(type_vocab_size=0), "token_type_embeddings"),
    "labels a list": (config(id2label=[1, 2]), "model .* cannot be loaded: AttributeError: 'list'"),
    "code of its own": (config(auto_map={"AutoConfig": "mine.Mine"}, model_type="mine"), "give --trust_remote_code"),
    "quantization a number": (config(quantization_config=4), "cannot be loaded"),
    "weights named in config": (config(transformers_weights="../other.safetensors"), "inside the model directory"),
    "threshold infinite": (config(answer_policy={"null_score_diff_threshold": float("inf")}), "finite number"),
    "threshold negative infinite": (config(answer_policy={"null_score_diff_threshold": -float("inf")}), "finite"),
    "threshold nan": (config(answer_policy={"null_score_diff_threshold": float("nan")}), "nan; expected a finite"),
    "threshold text": (config(answer_policy={"null_score_diff_threshold": "0"}), "'0'; expected a finite number"),
    "threshold 10**400": (config(answer_policy={"null_score_diff_threshold": 10**400}), "finite number"),
    "threshold true": (config(answer_policy={"null_score_diff_threshold": True}), "True; expected a finite number"),
    "older threshold infinite": (config(null_score_diff_threshold=float("inf")), "--null_score_diff_threshold"),
    "older threshold text": (config(null_score_diff_threshold="high"), "'high'; expected a finite number"),
    "policy a list": (config(answer_policy=[0]), r"answer_policy \[0\]; expected a mapping"),
    "tokenizer empty object": (text("tokenizer.json", "{}"), "tokenizer.json has no 'model'"),
    "tokenizer a list": (text("tokenizer.json", "[]"), r"tokenizer.json holds \[\]; a mapping is expected"),
    "tokenizer cut": (cut("tokenizer.json", 0.5), "tokenizer.json is broken JSON at line"),
    "tokenizer empty": (text("tokenizer.json", ""), "tokenizer.json is broken JSON"),
    "tokenizer not UTF-8": (raw("tokenizer.json", b'{"model": "\xff"}'), "tokenizer.json is not UTF-8"),
    "tokenizer deep": (text("tokenizer.json", DEEP), "tokenizer.json is nested too deeply"),
    "tokenizer of garbage": (keys("tokenizer.json", model={"type": "garbage"}), "tokenizer"),
    "tokenizer a FIFO": (fifo("tokenizer.json"), "'tokenizer.json' is a FIFO"),
    "tokenizer a device": (
        lambda folder: ((folder / "tokenizer.json").unlink(), (folder / "tokenizer.json").symlink_to("/dev/zero")),
        "'tokenizer.json' is a device",
    ),
    "tokenizer config a list": (text("tokenizer_config.json", "[]"), r"tokenizer_config.json holds \[\]"),
    "tokenizer config broken": (text("tokenizer_config.json", "{"), "tokenizer_config.json is broken JSON"),
    "tokenizer length text": (keys("tokenizer_config.json", model_max_length="long"), "model_max_length 'long'"),
    "tokenizer side garbage": (keys("tokenizer_config.json", padding_side="middle"), "middle"),
    "tokenizer inputs a number": (keys("tokenizer_config.json", model_input_names=3), "tokenizer"),
    "tokenizer inputs empty": (keys("tokenizer_config.json", model_input_names=[]), "expected a list with input_ids"),
    "tokenizer without a pair": (
        keys(
            "tokenizer.json",
            post_processor={"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
        ),
        "makes no token of a question and its context",
    ),
    "tokenizer with a special token beyond the embeddings": (
        keys("tokenizer.json", post_processor={"type": "BertProcessing", "sep": ["[SEP]", 10**6], "cls": ["[CLS]", 2]}),
        "ids up to 1000000, .* has embeddings for",
    ),
    "tokenizer's token a number": (keys("tokenizer_config.json", cls_token=3), "cls_token"),
    "weights empty": (raw("model.safetensors", b""), "'model.safetensors' of model"),
    "weights cut": (cut("model.safetensors", 0.7), "'model.safetensors' of model"),
    "weights cut in header": (cut("model.safetensors", 100), "'model.safetensors' of model"),
    "weights with a huge header": (raw("model.safetensors", b"\xff" * 7 + b"\x7f" + b"{}"), "'model.safetensors' of"),
    "weights random": (raw("model.safetensors", bytes(range(256)) * 100), "'model.safetensors' of model"),
    "weights a FIFO": (fifo("model.safetensors"), "'model.safetensors' is a FIFO"),
    "weights missing": (without("model.safetensors"), "model.safetensors"),
    "weights of wrong shapes": (
        weights(lambda found: found.update({EMBEDDINGS: found[EMBEDDINGS][:, :16].contiguous()})),
        rf"{EMBEDDINGS} has the shape \(\d+, 16\) in the file, \(\d+, 32\) by config.json",
    ),
    "weights flat": (
        weights(lambda found: found.update({key: tensor.flatten() for key, tensor in found.items()})),
        r"and \d+ more; config.json and weights are not of the same model",
    ),
    "weights of integers": (
        weights(lambda found: found.update({HEAD: torch.ones(2, 32, 3, dtype=torch.int32)})),
        rf"{HEAD} has the shape \(2, 32, 3\) in the file, \(2, 32\)",
    ),
    "weights of nothing": (weights(lambda found: found.clear()), r"no weights for \d+ tensors of bert"),
    "weights without a tensor": (
        weights(lambda found: found.pop("bert.encoder.layer.1.output.dense.bias")),
        "no weights for 1 tensors of bert: bert.encoder.layer.1.output.dense.bias",
    ),
    "weights without the head": (weights(lambda found: found.pop(HEAD)), f"no weights for {HEAD}.*scripts/train.py"),
    "weights with a nan": (set_value(EMBEDDINGS, (7, 3), float("nan")), f"tensor {EMBEDDINGS} holds nan or infinity"),
    "weights with an infinity": (set_value(HEAD, (1, 3), float("inf")), f"tensor {HEAD} holds nan or infinity"),
    "weights with -infinity": (set_value(HEAD, (0, 0), -float("inf")), f"tensor {HEAD} holds nan or infinity"),
    "head of three": (
        weights(lambda found: found.update({HEAD: torch.zeros(3, 32), "qa_outputs.bias": torch.zeros(3)})),
        rf"{HEAD} has the shape \(3, 32\) in the file, \(2, 32\) by config.json",
    ),
    "index broken": (sharded("{"), "model.safetensors.index.json is broken JSON"),
    "index a list": (sharded([]), r"model.safetensors.index.json holds \[\]"),
    "index without a map": (sharded({}), "model.safetensors.index.json has no 'weight_map'"),
    "index of numbers": (sharded({"weight_map": {HEAD: 1}}), "no mapping from tensors to files"),
    "index empty": (sharded({"weight_map": {}}), "no mapping from tensors to files"),
    "index out of the folder": (shards_outside, r"names '\.\./other.safetensors', which is not in the folder"),
    "index to the root": (sharded({"weight_map": {HEAD: "/dev/zero"}}), "'/dev/zero', which is not in the folder"),
    "shard missing": (
        sharded({"metadata": {}, "weight_map": {HEAD: "model-2.safetensors"}}),
        "'model-2.safetensors', which model.safetensors.index.json names, is missing",
    ),
    "shard cut": (
        lambda folder: (
            sharded({"metadata": {}, "weight_map": {HEAD: "model-1.safetensors"}})(folder),
            cut("model-1.safetensors", 0.5)(folder),
        ),
        "'model-1.safetensors' of model",
    ),
    "pickle bomb": (payload("pytorch_model.bin", "model.safetensors"), "could run code and is not read"),
    "pickle bomb in torch's zip": (payload("pytorch_model.bin", "model.safetensors", zipped=True), "could run code"),
    "pickle of garbage": (
        lambda folder: (without("model.safetensors")(folder), raw("pytorch_model.bin", b"garbage" * 9)(folder)),
        "cannot be loaded",
    ),
    "pickle empty": (
        lambda folder: (without("model.safetensors")(folder), raw("pytorch_model.bin", b"")(folder)),
        "cannot be loaded",
    ),
}


ACCEPTED: dict[str, Damage] = {
    "a file more": raw("notes.bin", b"garbage"),
    "a folder more": lambda folder: (folder / "checkpoint-1").mkdir(),
    "a broken link": lambda folder: (folder / "old").symlink_to("nowhere"),
    "a link to the weights": lambda folder: (
        (folder / "model.safetensors").rename(folder.parent / "blob"),
        (folder / "model.safetensors").symlink_to(folder.parent / "blob"),
    ),
    "an unknown key": config(garbage=[1, {"x": None}], another_threshold=float("inf")),
    "an unknown key of the policy": config(answer_policy={"null_score_diff_threshold": -1.5, "later": "x"}),
    "a policy of null": config(answer_policy={"null_score_diff_threshold": None}),
    "a type of weights that is no text": config(dtype=32),
    "three labels": config(id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2}),
    "an architecture that is not there": config(architectures=["Garbage"]),
    "a byte order mark of nothing": text("special_tokens_map.json", "{}"),
    "a tensor more": weights(lambda found: found.update({"garbage": torch.ones(3)})),
    "an index beside whole weights": text("model.safetensors.index.json", "garbage"),
    "a pickle beside whole weights": raw("pytorch_model.bin", b"garbage"),
    "weights in a pickle of tensors": lambda folder: (
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin"),
        without("model.safetensors")(folder),
    ),
    "weights in half precision": weights(lambda found: found.update({key: x.half() for key, x in found.items()})),
    "weights in shards": lambda folder: sharded(
        {"metadata": {}, "weight_map": dict.fromkeys(load_file(folder / "model.safetensors"), "model-1.safetensors")}
    )(folder),
    "blanks and umlauts in its name": lambda folder: None,
}
NAMES = {"blanks and umlauts in its name": "mödel [bold] 日本", "a line break in its name": "mo\ndel\x1b[31m"}
ACCEPTED["a line break in its name"] = ACCEPTED["blanks and umlauts in its name"]


@pytest.fixture
def folder(toy, tmp_path) -> Path:
    return shutil.copytree(toy.model, tmp_path / "model")


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_model_ends_in_one_message(folder, name):
    """Breaks if a library's error comes through, a message names no folder, or a payload runs."""
    damage, message = DAMAGES[name]
    damage(folder)
    one_message(lambda: load(folder), folder, message)
    assert not (folder.parent / "RAN").exists()


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_odd_model_loads_and_its_weights_are_those_of_the_file(toy, tmp_path, name):
    """Breaks if a refusal is too eager, or what is odd makes transformers fill a tensor with random numbers."""
    folder = shutil.copytree(toy.model, tmp_path / NAMES.get(name, "model"))
    ACCEPTED[name](folder)
    found, expected = load(folder).state_dict(), load_file(toy.model / "model.safetensors")
    assert expected.keys() <= found.keys()
    for tensor in expected:
        torch.testing.assert_close(found[tensor], expected[tensor], atol=1e-3, rtol=1e-3)
    assert found[HEAD].shape == (2, 32)


# --------------------------------------------------------------------------------------------------------- in training


@pytest.mark.parametrize(
    "name",
    [
        "activation unknown",
        "config a list",
        "hidden size another",
        "more layers",
        "pickle bomb",
        "shard missing",
        "tokenizer empty object",
        "weights cut",
        "weights of nothing",
        "weights with a nan",
        "weights without a tensor",
    ],
)
def test_training_refuses_what_prediction_refuses(folder, name):
    """Breaks if a base that lacks a layer is trained with random numbers in its place."""
    damage, message = DAMAGES[name]
    damage(folder)
    one_message(lambda: load(folder, trained=False), folder, message)


def test_training_begins_with_a_new_head_of_two_where_the_base_has_another(folder, caplog):
    """A classifier of three labels as base. Breaks if the head gets three outputs, or the new head is not mentioned."""
    DAMAGES["head of three"][0](folder)
    config(id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2})(folder)
    loaded = load(folder, trained=False)
    assert loaded.qa_outputs.weight.shape == (2, 32) and loaded.config.num_labels == 2
    assert loaded.qa_outputs.weight.abs().sum() > 0
    assert "qa_outputs.bias has the shape (3,) in the file, (2,) by config.json" in caplog.text
    assert "training begins with a new head" in caplog.text


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
def test_a_published_decoder_keeps_its_weights(kind, tmp_path):
    """transformers looks for them under another name with this head. Breaks if the whole decoder is random again."""
    folder = zoo.make(kind, tmp_path)
    config = AutoConfig.from_pretrained(folder)
    published = AutoModelForCausalLM.from_config(config)
    (folder / "model.safetensors").unlink()
    published.save_pretrained(folder)
    assert "model.layers.1.mlp.up_proj.weight" in load_file(folder / "model.safetensors")
    loaded = load(folder, trained=False)
    assert loaded.base_model_prefix == ("model" if kind == "mistral" else "transformer")
    decoder = getattr(loaded, loaded.base_model_prefix)
    assert {name for name, _ in decoder.named_parameters()} == {name for name, _ in published.model.named_parameters()}
    for name, weight in published.model.named_parameters():
        assert torch.equal(decoder.get_parameter(name), weight), name


def test_experts_that_cannot_be_joined_are_refused(tmp_path):
    """transformers joins a layer's experts into one tensor. Breaks if its pointer to a silenced report comes through."""
    folder = zoo.make("qwen2", tmp_path / "model")
    settings = AutoConfig.from_pretrained(folder).to_dict() | dict(num_experts=2, moe_intermediate_size=16)
    del settings["model_type"], settings["architectures"]
    AutoModelForQuestionAnswering.from_config(Qwen3MoeConfig(**settings)).save_pretrained(folder)
    assert load(folder).config.model_type == "qwen3_moe"
    name = "transformer.layers.0.mlp.experts.1.up_proj.weight"
    weights(lambda found: found.update({name: found[name][:, :5].contiguous()}))(folder)
    one_message(lambda: load(folder), folder, "automatic conversion of the weights; a file of the folder is damaged")
