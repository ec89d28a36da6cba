"""What cannot be used is refused from its files, with the way out; what can is loaded in fp32."""

import json
import shutil

import pytest
import torch
import toy_tokenizers
import zoo
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    BertConfig,
    DebertaV2Config,
    RobertaConfig,
    RobertaForQuestionAnswering,
    ViTConfig,
)

from qa_accel.models import architectures, loading
from qa_accel.models.settings import ModelConfig


def copied(folder, target):
    shutil.copytree(folder, target)
    return target


def test_a_type_without_a_question_answering_head_is_refused_from_its_config(tmp_path):
    """Breaks if the refusal needs the weights (there are none here), or comes after the data was read."""
    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"type 'vit', for which transformers has no question answering head; take .*BERT"
    ):
        loading.load_model_config(ModelConfig(str(tmp_path)), 64)


def test_remote_code_needs_trust_and_may_then_provide_the_head(tmp_path):
    config = ViTConfig().to_dict() | {"auto_map": {"AutoModelForQuestionAnswering": "mine.Mine"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="no question answering head"):
        loading.load_model_config(ModelConfig(str(tmp_path)), 64)
    assert loading.load_model_config(ModelConfig(str(tmp_path), trust_remote_code=True), 64).model_type == "vit"


@pytest.mark.parametrize(
    "load",
    [loading.load_tokenizer, lambda settings: loading.load_model_config(settings, 64)],
    ids=["tokenizer", "config"],
)
def test_a_folder_without_a_model_is_named(load, tmp_path):
    with pytest.raises(ValueError, match="cannot be loaded") as refused:
        load(ModelConfig(str(tmp_path)))
    assert str(tmp_path) in str(refused.value)


def test_a_slow_tokenizer_is_refused_since_it_gives_no_offsets(tmp_path):
    """ByT5 reads bytes and has no fast tokenizer, as BERTs of some languages have none."""
    from transformers import ByT5Tokenizer

    ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"ByT5Tokenizer.* is slow: it gives no character offsets.*fast tokenizer"):
        loading.load_tokenizer(ModelConfig(str(tmp_path)))


def test_a_window_that_is_longer_than_the_positions_is_refused_with_the_longest_that_fits(toy):
    settings = ModelConfig(str(toy.model))
    assert loading.load_model_config(settings, 128).max_position_embeddings == 128
    with pytest.raises(
        ValueError, match=r"--max_seq_length 129 is more than the 128 positions .*set --max_seq_length 128"
    ):
        loading.load_model_config(settings, 129)


def test_robertas_positions_begin_after_the_padding_id_so_that_two_fewer_can_be_used(tmp_path):
    """514 position embeddings with padding id 1 allow windows of 512. The model confirms it: 512 pass, 513 do not."""
    config = RobertaConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=514,
    )  # fmt: skip
    assert architectures.first_position(config) == 2
    assert loading.available_positions(config) == 512
    roberta = RobertaForQuestionAnswering(config).eval()
    with torch.no_grad():
        assert roberta(input_ids=torch.full((1, 512), 9)).start_logits.shape == (1, 512)
        with pytest.raises((IndexError, RuntimeError)):
            roberta(input_ids=torch.full((1, 513), 9))


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        (BertConfig(max_position_embeddings=512), 512),
        (RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (DebertaV2Config(max_position_embeddings=512, relative_attention=True), None),
        (AutoConfig.for_model("xlnet"), None),
    ],
    ids=["absolute", "after padding", "relative", "no limit"],
)
def test_positions_limit_windows_only_where_the_model_looks_them_up(config, positions):
    assert loading.available_positions(config) == positions


def test_weights_saved_in_half_precision_train_in_fp32(toy, tmp_path):
    """Breaks if the file's own type is taken: updates of 1e-5 to weights of 1 vanish in fp16."""
    folder = copied(toy.model, tmp_path / "half")
    halves = {name: weight.half() for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config))
    settings = ModelConfig(str(folder))
    loaded = loading.load_model(settings, loading.load_model_config(settings, 64), loading.load_tokenizer(settings))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(loaded.state_dict()[name], halves[name].float()), "the file's weights were loaded, not new ones"


def test_a_head_that_was_never_trained_is_refused_in_prediction_but_not_in_training(toy):
    settings = ModelConfig(str(toy.untrained))
    config, tokenizer = loading.load_model_config(settings, 64), loading.load_tokenizer(settings)
    assert loading.load_model(settings, config, tokenizer).qa_outputs.weight.shape == (2, 32)
    with pytest.raises(ValueError, match=r"no weights for qa_outputs.bias, qa_outputs.weight.*train.py"):
        loading.load_model(settings, config, tokenizer, trained=True)
    trained = ModelConfig(str(toy.model))
    assert loading.load_model(trained, config, tokenizer, trained=True).qa_outputs.weight.shape == (2, 32)


def test_a_tokenizer_that_knows_more_tokens_than_the_embeddings_is_refused(toy, tmp_path):
    """Breaks if it is found out by an index error (or, on a GPU, by an assertion on the device) in the middle of a run."""
    tokenizer = loading.load_tokenizer(ModelConfig(str(toy.model)))
    rows = len(tokenizer)
    tokenizer.add_tokens(["Zanzibar"])
    tokenizer.save_pretrained(tmp_path)
    settings = ModelConfig(str(toy.model), tokenizer_name=str(tmp_path))
    with pytest.raises(ValueError, match=rf"has ids up to {rows}, .*embeddings for {rows}.*--tokenizer_name"):
        loading.load_model(settings, loading.load_model_config(settings, 64), loading.load_tokenizer(settings))


def test_what_a_model_takes_is_read_from_its_forward(toy):
    settings = ModelConfig(str(toy.model))
    bert = loading.load_model(settings, loading.load_model_config(settings, 64), loading.load_tokenizer(settings))
    names = loading.ModelInputs.of(bert).names
    assert {"token_type_ids", "position_ids"} <= names and "pixel_values" not in names


def test_a_batch_is_filled_with_the_pad_token_else_the_end_of_text_else_zero():
    assert loading.padding_id(toy_tokenizers.roberta()) == 1
    gpt2 = toy_tokenizers.gpt2()
    gpt2.pad_token = None
    assert loading.padding_id(gpt2) == gpt2.eos_token_id
    gpt2.eos_token = None
    assert loading.padding_id(gpt2) == 0


def test_gradient_checkpointing_recomputes_the_layers_and_changes_no_gradient(toy, recwarn):
    """Breaks if the switch does not reach the layers (each then runs once only), or by the name that warns."""
    runs, gradients = [], []
    for switch in (False, True):
        settings = ModelConfig(str(toy.without_dropout), gradient_checkpointing=switch)
        loaded = loading.load_model(settings, loading.load_model_config(settings, 64), loading.load_tokenizer(settings))
        count = [0]
        loaded.train().bert.encoder.layer[0].output.dense.register_forward_hook(
            lambda *_, count=count: count.__setitem__(0, count[0] + 1)
        )
        loaded(input_ids=torch.arange(5, 25)[None]).start_logits.square().sum().backward()
        runs.append(count[0])
        gradients.append(loaded.bert.embeddings.word_embeddings.weight.grad)
    assert runs == [1, 2]
    torch.testing.assert_close(*gradients)
    assert not [w for w in recwarn if "deprecated" in str(w.message)]


def test_gradient_checkpointing_does_not_break_a_compiled_graph(toy):
    """Breaks if transformers finds something to warn of on the way: the compiled graph is then split."""
    settings = ModelConfig(str(toy.model), gradient_checkpointing=True)
    loaded = loading.load_model(
        settings, loading.load_model_config(settings, 64), loading.load_tokenizer(settings)
    ).train()
    torch._dynamo.reset()
    whole = torch.compile(loaded, backend="eager", fullgraph=True)
    whole(input_ids=torch.arange(5, 25)[None]).start_logits.sum().backward()


def test_gradient_checkpointing_is_refused_where_a_model_has_none(tmp_path):
    settings = ModelConfig(str(zoo.make("mpnet", tmp_path)), gradient_checkpointing=True)
    with pytest.raises(ValueError, match="--gradient_checkpointing: transformers has none for mpnet"):
        loading.load_model(settings, loading.load_model_config(settings, 64), loading.load_tokenizer(settings))


@pytest.mark.parametrize(("dtype", "loaded_as"), [("bfloat16", torch.bfloat16), ("auto", torch.float16)])
def test_another_type_of_weights_is_used_if_requested(toy, tmp_path, dtype, loaded_as):
    folder = copied(toy.model, tmp_path / "half")
    halves = {name: weight.half() for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config))
    settings = ModelConfig(str(folder), dtype=dtype)
    loaded = loading.load_model(settings, loading.load_model_config(settings, 64), loading.load_tokenizer(settings))
    assert {parameter.dtype for parameter in loaded.parameters()} == {loaded_as}


def test_a_checkpoint_that_requests_tuples_still_names_its_logits(toy, tmp_path):
    """Breaks if `return_dict: false` in config.json is believed: training would end at its first batch."""
    folder = copied(toy.model, tmp_path / "tuples")
    config = json.loads((folder / "config.json").read_text()) | {"return_dict": False}
    (folder / "config.json").write_text(json.dumps(config))
    settings = ModelConfig(str(folder))
    loaded = loading.load_model(settings, loading.load_model_config(settings, 64), loading.load_tokenizer(settings))
    assert loaded(input_ids=torch.tensor([[2, 7, 3]])).start_logits.shape == (1, 3)
