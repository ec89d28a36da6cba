"""The same run under every file of accelerate_configs/, on two CPU processes: the same weights, from any point on.

Runs are whole ones of the training script on the toy; `equality` launches them as accelerate would.
"""

import signal
from pathlib import Path

import pytest
import torch
from equality import STRATEGIES, TOLERANCE, arguments, difference, same_predictions
from trainer import Trainer, assert_same_weights, kill_after, steps_of, weights_of
from transformers import AutoModelForQuestionAnswering

LENGTH = dict(max_train_steps=12, eval_steps=6, save_steps=6)


@pytest.fixture(scope="module")
def trainer(toy, tmp_path_factory) -> Trainer:
    return Trainer(toy, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def one_process(trainer, tmp_path_factory) -> Path:
    options = arguments(None, model_name_or_path=trainer.toy.without_dropout, **LENGTH)
    return trainer.whole(tmp_path_factory.mktemp("one") / "run", **options)


@pytest.fixture(scope="module", params=STRATEGIES)
def finished(request, trainer, tmp_path_factory) -> Path:
    """The run under each strategy, with two batches per rank in each step, clipping, and an evaluation on the way."""
    options = arguments(request.param, model_name_or_path=trainer.toy.without_dropout, **LENGTH)
    return trainer.whole(tmp_path_factory.mktemp(request.param) / "run", **options)


def test_every_strategy_ends_with_the_weights_of_one_process(finished, one_process):
    """Breaks if gradients are divided by ranks or accumulated batches once too often, if a strategy clips to another norm
    or not at all, decays other weights, or trains at another rate than the schedule's."""
    assert difference(one_process, finished) < TOLERANCE
    assert same_predictions(one_process, finished)
    steps, same_steps = steps_of(one_process), steps_of(finished)
    assert len(steps) == len(same_steps) == 12
    assert max(line["grad_norm"] for line in steps) > 1, "nothing is clipped, so this test proves little"
    for line, same in zip(steps, same_steps):
        assert line["loss"] == pytest.approx(same["loss"], abs=1e-4)
        assert line["grad_norm"] == pytest.approx(same["grad_norm"], rel=1e-3)
        assert line["learning_rate"] == same["learning_rate"]


def test_the_final_model_is_plain(finished):
    """Breaks if weights are saved in half precision, as one rank's share, or under a wrapper's names."""
    model, info = AutoModelForQuestionAnswering.from_pretrained(finished, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.config.architectures == ["BertForQuestionAnswering"]
    assert {weight.dtype for weight in weights_of(finished).values()} == {torch.float32}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_killed_run_ends_with_the_weights_it_would_have_had(name, trainer, tmp_path):
    """With dropout, so that random states count. Breaks if a rank's share of AdamW's state, the rate after the resume
    (an offloaded optimizer can keep the old one) or a random generator is not restored."""
    whole = trainer.whole(tmp_path / "whole", **arguments(name, **LENGTH))
    killed = trainer(
        tmp_path / "resumed", arrangements=[(kill_after, "checkpoint.save", 1)], **arguments(name, **LENGTH)
    )
    assert any(one.code == -signal.SIGKILL for one in killed)
    assert [path.name for path in (tmp_path / "resumed").glob("checkpoint-*")] == ["checkpoint-6"]
    resumed = trainer.whole(tmp_path / "resumed", **arguments(name, **LENGTH))
    assert steps_of(whole)[6:] == steps_of(resumed)[6:]
    assert_same_weights(whole, resumed)
