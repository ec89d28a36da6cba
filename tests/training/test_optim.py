"""Which weights decay, and the learning rate that is applied at each step of a run."""

import math

import pytest
import torch
from processes import call
from torch import nn
from transformers import AutoModelForQuestionAnswering, ModernBertConfig, ModernBertForQuestionAnswering

from qa_accel.training import optim
from qa_accel.training.part_settings import OptimConfig


def names_without_decay(model: nn.Module) -> set[str]:
    groups = optim.parameter_groups(model, 0.01)
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    plain = {id(parameter) for parameter in groups[1]["params"]}
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trained = {name: id(parameter) for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert sorted(grouped) == sorted(trained.values()), "each trained parameter is in one group"
    return {name for name, parameter in trained.items() if parameter in plain}


def test_in_bert_all_but_biases_and_layer_norms_decays(toy):
    bert = AutoModelForQuestionAnswering.from_pretrained(toy.model)
    assert names_without_decay(bert) == {
        name for name, _ in bert.named_parameters() if name.endswith(".bias") or "LayerNorm" in name
    }
    assert "qa_outputs.weight" not in names_without_decay(bert)
    assert "bert.embeddings.word_embeddings.weight" not in names_without_decay(bert)


def test_norms_are_known_by_their_class_whatever_the_attribute_is_called():
    """ModernBERT calls its norms attn_norm, mlp_norm, final_norm, norm; a list of names made for BERT misses them."""
    tiny = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1)
    model = ModernBertForQuestionAnswering(ModernBertConfig(**tiny, pad_token_id=0, cls_token_id=1, sep_token_id=2))
    plain = names_without_decay(model)
    assert {"model.embeddings.norm.weight", "model.final_norm.weight", "model.layers.1.attn_norm.weight"} <= plain
    assert not {name for name in plain if "norm" not in name and not name.endswith("bias")}


class ScaleRMSNorm(nn.Module):
    """A normalisation of another name, as models of one's own have."""

    def __init__(self, size: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(size))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.before = ScaleRMSNorm(4)
        self.after = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 4)
        self.r_w_bias = nn.Parameter(torch.zeros(2, 2))  # XLNet's biases are parameters of the attention itself
        self.table = nn.Parameter(torch.zeros(4))  # one dimension, but neither bias nor norm
        self.frozen = nn.Parameter(torch.zeros(4), requires_grad=False)


def test_exactly_biases_and_normalisation_weights_are_without_decay():
    """Breaks if groups are made by shape (table has one dimension, r_w_bias two) or frozen weights are taken in."""
    assert names_without_decay(Block()) == {"before.gain", "after.weight", "after.bias", "linear.bias", "r_w_bias"}


def test_a_model_in_which_everything_decays_has_one_group():
    """Breaks if an empty group is handed to AdamW, which DeepSpeed does not take."""
    assert len(optim.parameter_groups(nn.Linear(2, 2, bias=False), 0.01)) == 1


def applied_rates(config: OptimConfig, total_steps: int, first: int = 0) -> list[float]:
    """The learning rate in the optimizer itself at each step, accelerator and accumulation included; runs on every rank."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2, step_scheduler_with_optimizer=False)
    model = nn.Linear(2, 1)
    model, optimizer = accelerator.prepare(model, optim.make_optimizer(model, config))
    schedule = optim.make_schedule(optimizer, config, total_steps, first)
    rates = []
    for _ in range(first, total_steps):
        for _ in range(2):
            with accelerator.accumulate(model):
                accelerator.backward(model(torch.ones(1, 2)).sum())
                if accelerator.sync_gradients:
                    rates += {group["lr"] for group in torch_optimizer(optimizer).param_groups}
                optimizer.step()
                optimizer.zero_grad()
        schedule.step()
    return rates


def torch_optimizer(optimizer) -> torch.optim.Optimizer:
    while not isinstance(optimizer, torch.optim.AdamW):
        optimizer = optimizer.optimizer
    return optimizer


LINEAR = OptimConfig(learning_rate=1.0, warmup_ratio=0.2)
EXPECTED = {
    "linear": [0.0, 0.5, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8],
    "cosine": [0.0, 0.5] + [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)],
    "constant": [0.0, 0.5] + [1.0] * 8,
}


@pytest.mark.parametrize("shape", EXPECTED)
def test_ten_steps_with_two_of_warm_up_get_the_rates_worked_out_by_hand(shape):
    config = OptimConfig(learning_rate=1.0, warmup_ratio=0.2, lr_scheduler_type=shape)
    [rates] = call(applied_rates, config, 10)
    assert rates == pytest.approx(EXPECTED[shape])


def test_two_processes_apply_the_same_rates_as_one():
    """Breaks if the schedule is stepped once per rank: then the rate is 0 after half of the run."""
    assert call(applied_rates, LINEAR, 10, processes=2) == [pytest.approx(EXPECTED["linear"])] * 2


@pytest.mark.parametrize("done", [1, 2, 7])
def test_a_schedule_that_begins_after_some_steps_goes_on_as_if_it_had_never_stopped(done):
    [rates] = call(applied_rates, LINEAR, 10, done)
    assert rates == pytest.approx(EXPECTED["linear"][done:])


def test_a_restored_optimizer_does_not_scale_the_schedule():
    """Breaks if the schedule multiplies the rate that a checkpoint's optimizer happens to hold."""
    model = nn.Linear(2, 1)
    optimizer = optim.make_optimizer(model, LINEAR)
    schedule = optim.make_schedule(optimizer, LINEAR, 10)
    for _ in range(6):
        optimizer.step()
        schedule.step()
    other = optim.make_optimizer(model, LINEAR)
    other.load_state_dict(optimizer.state_dict())
    optim.make_schedule(other, LINEAR, 10, 6)
    assert other.param_groups[0]["lr"] == pytest.approx(EXPECTED["linear"][6])


def test_steps_of_warm_up_win_over_the_ratio():
    assert optim.warmup_steps(OptimConfig(warmup_ratio=0.5), 10) == 5
    assert optim.warmup_steps(OptimConfig(warmup_ratio=0.5, num_warmup_steps=3), 10) == 3
    assert optim.warmup_steps(OptimConfig(warmup_ratio=0.5, num_warmup_steps=0), 10) == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"learning_rate": 0.0}, "--learning_rate must be more than 0"),
        ({"warmup_ratio": 1.5}, "--warmup_ratio must be at most 1, got 1.5"),
        ({"max_grad_norm": -1.0}, "--max_grad_norm must be at least 0"),
        ({"num_warmup_steps": -1}, "--num_warmup_steps must be at least 0"),
        ({"weight_decay": -0.1}, "--weight_decay must be at least 0"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(setting, said):
    with pytest.raises(ValueError, match=said):
        OptimConfig(**setting)
