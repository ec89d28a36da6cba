"""Gradients that DDP sums in half precision: half the bytes, nearly the same run, and the same run after a kill."""

import signal
from typing import Any

import pytest
import torch
from equality import TOLERANCE, arguments, difference
from processes import call
from training_runs import assert_same_weights, kill_after, steps_of

from qa_accel.bench.collectives import Recorder
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import gradient_sums
from qa_accel.distributed.accelerator import RuntimeConfig
from qa_accel.distributed.settings import GradientSumsConfig

LENGTH: dict[str, Any] = dict(max_train_steps=12, eval_steps=6, save_steps=6)
HALF = ["fp16", "bf16"]
"""Of sums."""


def two_backward_passes(hook: str) -> tuple[list[int], torch.Tensor]:
    """Bytes of each collective of a step of two accumulated batches, and the gradient that its ranks agree on."""
    accelerator = runtime.make_accelerator(RuntimeConfig(), training=True, gradient_accumulation_steps=2)
    torch.manual_seed(0)
    model: Any = torch.nn.Linear(64, 64)
    model.register_buffer("numbers", torch.arange(512))
    config = GradientSumsConfig(hook)  # type: ignore[arg-type]
    assert gradient_sums.check(config, accelerator) is None
    model = accelerator.prepare(model)
    gradient_sums.compress(config, model)
    torch.manual_seed(1 + accelerator.process_index)
    with Recorder() as recorder:
        for _ in range(2):
            with accelerator.accumulate(model):
                accelerator.backward(model(torch.randn(8, 64)).square().sum())
    return [one.bytes for one in recorder.calls], model.module.weight.grad


@pytest.fixture(scope="module")
def in_fp32() -> tuple[list[int], torch.Tensor]:
    return call(two_backward_passes, "no", processes=2)[0]


def test_a_step_sums_four_bytes_a_parameter_once_and_nothing_else(in_fp32):
    """Breaks if accumulated batches are summed one by one, or if constants of the model (its numbered positions) go over the
    wire before each forward pass, as DDP does by default: every rank then waits for rank 0."""
    assert in_fp32[0] == [4 * (64 * 64 + 64)]


@pytest.mark.parametrize("hook", HALF)
def test_half_precision_halves_the_bytes_and_keeps_the_gradient(hook, in_fp32):
    """Breaks if the hook is not registered, or if what it sums is not the mean of all ranks."""
    (sent, gradient), (_, other) = call(two_backward_passes, hook, processes=2)
    assert 2 * sent[0] == in_fp32[0][0] and len(sent) == 1
    assert gradient.dtype == torch.float32 and torch.equal(gradient, other)
    near = {"fp16": 2**-10, "bf16": 2**-7}[hook]  # two roundings
    assert torch.all((gradient - in_fp32[1]).abs() <= near * in_fp32[1].abs().max())
    assert not torch.equal(gradient, in_fp32[1])


@pytest.fixture(scope="module")
def plain(trainer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "run"
    return trainer.whole(folder, **arguments("cpu_ddp", **LENGTH))


@pytest.mark.parametrize("hook", HALF)
def test_a_run_learns_nearly_the_same_and_goes_on_to_the_bit_after_a_kill(hook, plain, trainer, tmp_path):
    """12 steps of 2 accumulated batches with dropout. Breaks if gradients are accumulated in half precision, or if the
    first step after a resume sums without the hook."""
    whole = trainer.whole(tmp_path / "whole", "--ddp_comm_hook", hook, **arguments("cpu_ddp", **LENGTH))
    # steps of up to 3e-3 in the direction of the moments: the two runs' directions differ by some 2^-8
    assert TOLERANCE / 1000 < difference(plain, whole) < 6e-3
    for line, same in zip(steps_of(plain), steps_of(whole), strict=True):
        assert line["loss"] == pytest.approx(same["loss"], abs=0.02)
    by = [(kill_after, "training.checkpoint.save", 1)]
    left = trainer(tmp_path / "killed", "--ddp_comm_hook", hook, arrangements=by, **arguments("cpu_ddp", **LENGTH))
    assert any(one.code == -signal.SIGKILL for one in left)
    refused = trainer(tmp_path / "killed", **arguments("cpu_ddp", **LENGTH))
    assert refused[0].code == 2 and f"ddp_comm_hook: '{hook}' then, None now" in refused[0].output
    trainer.whole(tmp_path / "killed", "--ddp_comm_hook", hook, **arguments("cpu_ddp", **LENGTH))
    assert_same_weights(whole, tmp_path / "killed")


def test_it_is_refused_where_a_strategy_sums_in_its_own_way_and_warns_on_one_process(trainer, tmp_path):
    """Breaks if a run is silently another one than its flags say."""
    hook = ("--ddp_comm_hook", "bf16")
    left = trainer(tmp_path / "split", *hook, **arguments("fsdp2", max_train_steps=1))
    assert (
        left[0].code == 2 and "--ddp_comm_hook bf16 is for DDP, FSDP2 sums gradients in its own way" in left[0].output
    )
    (left,) = trainer(tmp_path / "alone", *hook, **arguments(None, max_train_steps=1))
    assert left.code == 0 and "warning: --ddp_comm_hook bf16 does nothing here: one process" in left.output
