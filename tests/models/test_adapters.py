"""Frozen weights stay what they were to the bit; an adapter ends where peft and the plain weights end too."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import zoo
from peft.tuners.lora import LoraLayer
from processes import call, run
from toy import WINDOWS, flags
from training_runs import assert_same_weights, weights_of
from transformers import AutoModelForQuestionAnswering

from qa_accel import config
from qa_accel.commands import predict as predict_module
from qa_accel.distributed import entry
from qa_accel.models import adapters, architectures, layer_cut, loading
from qa_accel.models.settings import AdapterConfig, LayerCutConfig, ModelConfig
from qa_accel.training import optim
from qa_accel.training.part_settings import CheckpointConfig
from qa_accel.training.settings import TrainConfig

SHORT: Any = dict(max_train_steps=4, save_steps=2, learning_rate=1e-2)
LORA: Any = dict(lora_r=4, lora_alpha=8, lora_dropout=0.1)
TEXT = torch.arange(5, 45)[None]


def loaded(folder: Path | str) -> Any:
    settings = ModelConfig(str(folder))
    return loading.load_model(settings, loading.load_model_config(settings, 64), loading.load_tokenizer(settings))


def logits(qa_model: Any) -> torch.Tensor:
    with torch.no_grad():
        output = qa_model.eval()(input_ids=TEXT)
    return torch.stack([output.start_logits, output.end_logits])


# --------------------------------------------------------------------------------------------------- depth of a layer


@pytest.mark.parametrize(
    ("kind", "layers", "heads"),
    [
        ("albert", 1, ["qa_outputs"]),  # its layers share their weights
        ("bart", 4, ["qa_outputs"]),
        ("bert", 2, ["qa_outputs"]),
        ("funnel", 4, ["qa_outputs"]),
        ("gpt2", 2, ["qa_outputs"]),
        ("modernbert", 2, ["head", "classifier"]),
        ("t5", 4, ["qa_outputs"]),
        ("xlnet", 2, ["qa_outputs"]),
    ],
)
def test_embeddings_layers_and_head_are_distinguished(kind, layers, heads, tmp_path):
    """Breaks if an architecture's layers are not found (all would count as embeddings), or its head is not the last."""
    qa_model = loaded(zoo.make(kind, tmp_path))
    depths = architectures.depths(qa_model)
    assert architectures.head_modules(qa_model) == heads
    assert set(depths.values()) == set(range(layers + 2))
    assert next(iter(depths.values())) == 0
    assert {name.partition(".")[0] for name, depth in depths.items() if depth == layers + 1} == set(heads)


def test_the_rate_falls_by_one_factor_for_each_layer_below_the_head(toy):
    """Two layers and decay 0.5: head 1, layers 1/2 and 1/4, embeddings 1/8, before and after the schedule."""
    qa_model = loaded(toy.model)
    settings = optim.OptimConfig(learning_rate=8e-4, layerwise_lr_decay=0.5, lr_scheduler_type="constant")
    optimizer = optim.make_optimizer(qa_model, settings)
    optim.make_schedule(optimizer, settings, 10)
    rate = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    expected = {"qa_outputs": 8e-4, "layer.1": 4e-4, "layer.0": 2e-4, "embeddings": 1e-4}
    counted = 0
    for name, parameter in qa_model.named_parameters():
        [wanted] = [value for part, value in expected.items() if part in name.split(".attention")[0]]
        assert rate[id(parameter)] == pytest.approx(wanted), name
        counted += 1
    assert counted == len(rate)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(8e-4), "the log shows the first group's"


# --------------------------------------------------------------------------------------------------- frozen layers


def test_frozen_layers_end_bit_equal_and_the_others_do_not(trainer, tmp_path):
    """Two ranks. Breaks if a frozen weight decays or gets a gradient, or if DDP waits for one."""
    folder = trainer.whole(tmp_path / "frozen", processes=2, freeze_layers=1, max_train_steps=3, learning_rate=1e-2)
    before, after = weights_of(trainer.toy.model), weights_of(folder)
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if "embeddings" in name or "layer.0." in name}
    assert len(frozen) > 10 and frozen <= same
    # a key's bias adds the same to all that a softmax compares: its gradient is only rounding
    assert {name for name in same - frozen if not name.endswith("key.bias")} == set()


# --------------------------------------------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def adapter(trainer, tmp_path_factory) -> Path:
    return trainer.whole(tmp_path_factory.mktemp("lora") / "adapter", processes=2, **SHORT, **LORA)


@pytest.fixture(scope="module")
def merged(trainer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lora") / "merged"
    return trainer.whole(folder, "--merge_lora", processes=2, **SHORT, **LORA)


def test_peft_loads_the_adapter_and_its_logits_are_those_of_the_merged_weights(adapter, merged, toy):
    """The same run twice, saved in two forms. Breaks if a weight is saved under another name than peft's (it would be
    skipped), if scaling or direction of the product is wrong, or if the head is not among what is saved."""
    base = AutoModelForQuestionAnswering.from_pretrained(toy.model)
    untouched = logits(base)
    by_peft = logits(peft.PeftModel.from_pretrained(base, adapter))
    plain, info = AutoModelForQuestionAnswering.from_pretrained(merged, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert (by_peft - untouched).abs().max() > 0.1
    torch.testing.assert_close(by_peft, logits(plain), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(loaded(adapter)), logits(plain), atol=1e-5, rtol=1e-5)
    assert not (adapter / "model.safetensors").exists() and not (merged / "adapter_config.json").exists()


def test_only_adapter_and_head_are_saved_and_the_base_is_what_it_was(adapter, merged, toy):
    names = {name for name in torch_names(adapter / "adapter_model.safetensors") if "lora_" not in name}
    assert names == {"base_model.model.qa_outputs.weight", "base_model.model.qa_outputs.bias"}
    before, after = weights_of(toy.model), weights_of(merged)
    assert before.keys() == after.keys()
    assert torch.equal(
        before["bert.embeddings.word_embeddings.weight"], after["bert.embeddings.word_embeddings.weight"]
    )
    assert not torch.equal(before["qa_outputs.weight"], after["qa_outputs.weight"])


def torch_names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return list(file.keys())


def test_an_adapters_run_resumes_to_the_same_bits(trainer, merged, tmp_path):
    """Breaks if the adapter's first weights are drawn again over the restored ones, or are not part of a checkpoint."""
    folder = tmp_path / "resumed"
    start = merged / "checkpoint-2"
    trainer.whole(folder, "--merge_lora", processes=2, resume_from_checkpoint=start, **SHORT, **LORA)
    assert_same_weights(merged / "checkpoint-4", folder / "checkpoint-4")


def predict(argv: list[str]) -> None:
    entry.main(lambda: predict_module.run(config.parse(predict_module.Config, argv)))


def test_predictions_of_both_forms_are_those_of_training(trainer, adapter, merged, tmp_path):
    for folder in (adapter, merged):
        out = tmp_path / folder.name
        settings = dict(
            model_name_or_path=folder, test_file=trainer.toy.dev, output_dir=out, null_score_diff_threshold=0
        )
        left = run(predict, flags(**settings, cache_dir=trainer.cache, n_best_size=4, **WINDOWS))
        assert left[0].code == 0, left[0].output
        found = json.loads((out / "predictions.json").read_text())
        assert found == json.loads((folder / "predictions.json").read_text())


@pytest.mark.parametrize("kind", ["gpt2", "modernbert", "t5", "xlnet", "llama"])
def test_weights_merged_by_hand_are_those_that_peft_merges(kind, tmp_path):
    """GPT-2 keeps its matrices the other way round, ModernBERT's head has two modules, T5 has none around its layers."""
    folder = zoo.make(kind, tmp_path / "base")
    [(weight, logit)] = call(merge_both_ways, str(folder), str(tmp_path / "adapter"))
    assert weight < 1e-6
    assert logit < 1e-3, "sums in another order, through layers of wide weights"


def merge_both_ways(folder: str, target: str) -> tuple[float, float]:
    """Greatest difference of a weight; and that of a logit, over the greatest logit."""
    qa_model = loaded(folder)
    torch.manual_seed(0)
    adapters.apply(qa_model, AdapterConfig(**LORA))
    with torch.no_grad():
        for parameter in qa_model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    weights = {name: weight.detach().clone() for name, weight in qa_model.state_dict().items()}
    tuned = logits(qa_model)
    Path(target).mkdir()
    adapters.save(qa_model, weights, Path(target), merge=True)
    assert (tuned - logits(loaded(folder))).abs().max() > 0.01
    plain, info = AutoModelForQuestionAnswering.from_pretrained(target, output_loading_info=True)
    assert not info["missing_keys"], info
    away = 0.0
    layers = {name: module for name, module in qa_model.named_modules() if isinstance(module, LoraLayer)}
    for name, layer in layers.items():
        layer.merge()  # peft's own way, which changes the model
        away = max(away, (layer.base_layer.weight - plain.get_submodule(name).weight).abs().max().item())
    return away, ((logits(plain) - tuned).abs().max() / tuned.abs().max()).item()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(lora_r=-1), "--lora_r must be at least 0, got -1"),
        (dict(lora_r=4, lora_dropout=1.0), "--lora_dropout must be less than 1"),
        (dict(freeze_layers=1, lora_r=4), "--freeze_layers is for training without an adapter"),
        (dict(merge_lora=True), "mean nothing without --lora_r"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        AdapterConfig(**settings)


def test_an_adapter_on_some_layers_ends_with_plain_weights_or_not_at_all(toy, tmp_path):
    """An adapter alone names the model with all its layers, onto which it cannot be loaded. Breaks if such a run trains to its end,
    or if the merged weights are not those of the cut model with its adapter."""
    model, output, layers = ModelConfig("m"), CheckpointConfig("o"), LayerCutConfig((1,))
    with pytest.raises(ValueError, match=r"--keep_layers with --lora_r: .* add --merge_lora"):
        TrainConfig(model, output, layers=layers, tuning=AdapterConfig(lora_r=2))
    assert TrainConfig(model, output, layers=layers, tuning=AdapterConfig(lora_r=2, merge_lora=True)).tuning.merge_lora
    cut = layer_cut.cut(loaded(toy.model), (1,), "m")
    adapters.apply(cut, AdapterConfig(lora_r=2, merge_lora=True))
    with torch.no_grad():
        for name, weight in cut.named_parameters():
            if ".lora_B." in name:
                weight.fill_(0.1)
    adapters.save(cut, cut.state_dict(), tmp_path, merge=True)
    reloaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(reloaded), logits(cut), atol=1e-4, rtol=1e-4)


def test_layers_and_modules_that_are_not_there_are_named(toy):
    with pytest.raises(ValueError, match="--freeze_layers 3: bert has 2 layers here"):
        adapters.apply(loaded(toy.model), AdapterConfig(freeze_layers=3))
    with pytest.raises(ValueError, match="--lora_target_modules q_proj: No modules were targeted"):
        adapters.apply(loaded(toy.model), AdapterConfig(lora_r=2, lora_target_modules=("q_proj",)))
    with pytest.raises(ValueError, match="word_embeddings is not a linear layer but a Embedding"):
        adapters.apply(loaded(toy.model), AdapterConfig(lora_r=2, lora_target_modules=("word_embeddings",)))
