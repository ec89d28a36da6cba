"""A damaged adapter ends in one ValueError that names its folder and what is wrong; a whole one loads."""

import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import zoo
from model_damages import (
    DEEP,
    Damage,
    cut,
    fifo,
    keys,
    load,
    one_message,
    payload,
    raw,
    text,
    weights,
    without,
)
from transformers import AutoModelForQuestionAnswering

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory) -> Path:
    """As a run saves it: adapter, config.json of the model, tokenizer."""
    folder = tmp_path_factory.mktemp("whole") / "adapter"
    base = AutoModelForQuestionAnswering.from_pretrained(toy.model)
    lora = peft.LoraConfig(task_type="QUESTION_ANS", r=2, target_modules=["query"], modules_to_save=["qa_outputs"])
    made: Any = peft.get_peft_model(base, lora)
    made.save_pretrained(folder)
    for path in toy.model.glob("*.json"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "adapter")


def adapter(**values: Any) -> Damage:
    return keys(CONFIG, **values)


def cut_rank(found: dict[str, torch.Tensor]) -> None:
    for name in found:
        if "lora_A" in name:
            found[name] = found[name][:1].contiguous()


QUERY = "base_model.model.bert.encoder.layer.1.attention.self.query"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "base a number": (adapter(base_model_name_or_path=7), "base_model_name_or_path 7; write the base model's folder"),
    "base missing": (adapter(base_model_name_or_path=None), "base_model_name_or_path None; write the base model's"),
    "base empty": (adapter(base_model_name_or_path=""), "base_model_name_or_path ''; write the base model's"),
    "base a list": (adapter(base_model_name_or_path=["a"]), r"base_model_name_or_path \['a'\]; write the base"),
    "base that is not there": (
        adapter(base_model_name_or_path="/nowhere/base"),
        "'/nowhere/base': there is no such folder",
    ),
    "base with a NUL": (adapter(base_model_name_or_path="a\0b"), "base_model_name_or_path"),
    "base half a character": (adapter(base_model_name_or_path="a\ud83d"), "not UTF-8"),
    "heads text": (adapter(modules_to_save="qa_outputs"), "modules_to_save 'qa_outputs'; expected a list"),
    "heads numbers": (adapter(modules_to_save=[1]), r"modules_to_save \[1\]; expected a list of names"),
    "config broken": (text(CONFIG, "{"), "adapter_config.json is broken JSON at line 1"),
    "config a list": (text(CONFIG, "[]"), r"adapter_config.json holds \[\]; a mapping is expected"),
    "config empty object": (text(CONFIG, "{}"), "base_model_name_or_path None"),
    "config empty": (text(CONFIG, ""), "adapter_config.json is broken JSON"),
    "config deep": (text(CONFIG, DEEP), "adapter_config.json is nested too deeply"),
    "config not UTF-8": (raw(CONFIG, b"\xff"), "adapter_config.json is not UTF-8"),
    "config a FIFO": (fifo(CONFIG), "'adapter_config.json' is a FIFO"),
    "rank text": (adapter(r="two"), "adapter .* cannot be loaded"),
    "rank 0": (adapter(r=0), "adapter .* cannot be loaded"),
    "rank another": (adapter(r=3), r"size mismatch for .*lora_A.*\[2, 32\].*\[3, 32\]"),
    "type unknown": (adapter(peft_type="GARBAGE"), "adapter .* cannot be loaded"),
    "type a number": (adapter(peft_type=3), "adapter .* cannot be loaded"),
    "type missing": (adapter(peft_type=None), "adapter .* cannot be loaded"),
    "type of another kind": (adapter(peft_type="PREFIX_TUNING"), "adapter .* cannot be loaded"),
    "targets that are not there": (adapter(target_modules=["garbage"]), "No modules were targeted"),
    "targets a number": (adapter(target_modules=5), "adapter .* cannot be loaded"),
    "targets missing": (adapter(target_modules=None), "no weights for .*value.lora_A"),
    "targets more": (adapter(target_modules=["query", "value"]), "no weights for .*value.lora_A"),
    "targets others": (adapter(target_modules=["value"]), "no weights for .*value.lora_A"),
    "targets fewer": (
        adapter(target_modules=["layer.0.attention.self.query"]),
        f"has weights for {QUERY}.lora_A.weight, .* which the model does not have",
    ),
    "imports a module": (adapter(megatron_config={"x": 1}, megatron_core="evil"), "imports the module 'evil'"),
    "weights missing": (without(WEIGHTS), "has no adapter_model.safetensors"),
    "weights empty": (raw(WEIGHTS, b""), "adapter .* cannot be loaded"),
    "weights cut": (cut(WEIGHTS, 0.7), "adapter .* cannot be loaded"),
    "weights random": (raw(WEIGHTS, bytes(range(256)) * 9), "adapter .* cannot be loaded"),
    "weights of nothing": (
        weights(lambda found: found.clear(), WEIGHTS),
        "cannot be loaded: KeyError: 'base_model.model.qa_outputs",
    ),
    "weights without one": (weights(lambda found: found.pop(f"{QUERY}.lora_B.weight"), WEIGHTS), f"for {QUERY}.lora_B"),
    "weights without the head": (
        weights(lambda found: found.pop("base_model.model.qa_outputs.weight"), WEIGHTS),
        "cannot be loaded: KeyError: 'base_model.model.qa_outputs.weight'",
    ),
    "weights of another rank": (weights(cut_rank, WEIGHTS), r"size mismatch for .*lora_A.*\[1, 32\].*\[2, 32\]"),
    "weights with a nan": (
        weights(lambda found: found[f"{QUERY}.lora_A.weight"].fill_(float("nan")), WEIGHTS),
        "bert.encoder.layer.1.attention.self.query.weight holds nan",
    ),
    "pickle bomb": (payload("adapter_model.bin", WEIGHTS), "could run code and is not read"),
    "pickle bomb in torch's zip": (payload("adapter_model.bin", WEIGHTS, zipped=True), "could run code and is not"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_adapter_ends_in_one_message(folder, name, monkeypatch):
    """Breaks if an error of peft's comes through, a part of the adapter is passed over, a module is imported, or a payload
    runs."""
    (folder.parent / "evil.py").write_text("open('RAN', 'w')")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.chdir(folder.parent)
    damage, message = DAMAGES[name]
    damage(folder)
    one_message(lambda: load(folder), folder, message)
    assert not (folder.parent / "RAN").exists()


def test_a_whole_adapter_loads_and_adds_what_peft_adds(folder, toy):
    """lora_B begins at zero; with ones there the query's weights move by alpha / r x ones @ lora_A."""
    found: dict[str, torch.Tensor] = {}
    weights(lambda tensors: (tensors[f"{QUERY}.lora_B.weight"].fill_(1), found.update(tensors)), WEIGHTS)(folder)
    name = "bert.encoder.layer.1.attention.self.query.weight"
    moved = load(folder).state_dict()[name] - load(toy.model).state_dict()[name]
    expected = 8 / 2 * found[f"{QUERY}.lora_A.weight"].sum(dim=0)  # peft's lora_alpha is 8
    torch.testing.assert_close(moved, expected.expand(32, 32), atol=1e-5, rtol=1e-5)


def test_an_adapter_of_another_base_is_refused(folder, tmp_path):
    """Breaks if peft's list of mismatches comes through, or the base's own folder is not named."""
    other = zoo.make("roberta", tmp_path / "roberta")
    adapter(base_model_name_or_path=str(other))(folder)
    one_message(lambda: load(folder), other, "no weights for .* tensors of bert")


def test_an_adapter_on_a_damaged_base_names_the_base(folder, toy, tmp_path):
    base = shutil.copytree(toy.model, tmp_path / "base")
    adapter(base_model_name_or_path=str(base))(folder)
    cut("model.safetensors", 0.5)(base)
    one_message(lambda: load(folder), base, "'model.safetensors' of model .* cannot be loaded")


@pytest.mark.parametrize("own", [True, False])
def test_an_adapter_on_an_adapter_is_refused(folder, whole, own):
    """Breaks if transformers follows an adapter that names itself without an end."""
    base = folder if own else whole
    adapter(base_model_name_or_path=str(base))(folder)
    one_message(lambda: load(folder), folder, "which is an adapter too; merge it first")
