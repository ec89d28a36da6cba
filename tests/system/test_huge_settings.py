"""Settings far beyond the data cost what the data cost."""

import json

import pytest
from launches import refused
from toy import WINDOWS, flags


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_batches_of_a_billion_windows_are_all_windows_of_the_data(batching, toy, trainer, tmp_path):
    """66 windows: one step an epoch. Breaks if a plan, or a row that is gathered, is made for a billion."""
    huge = dict(per_device_train_batch_size=10**9, per_device_eval_batch_size=10**9, logging_steps=10**9)
    huge |= dict(save_steps=10**9, eval_steps=10**9, early_stopping_patience=10**9, n_best_size=10_000)
    huge |= dict(
        num_train_epochs=10**9, max_train_steps=2, ddp_timeout=10**9, max_answer_length=10**9, batching=batching
    )
    [left] = trainer(tmp_path / "run", **huge)
    assert left.code == 0, left.output
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["windows"] for line in lines if "loss" in line] == [66, 66]
    words = flags(model_name_or_path=tmp_path / "run", test_file=toy.dev, output_dir=tmp_path / "answers", **WINDOWS)
    [left] = refused("predict.py", *words, "--cache_dir", trainer.cache, "--per_device_eval_batch_size", 10**9)
    assert left.code == 0, left.output


def test_two_billion_batches_to_a_step_are_refused_before_the_model_is_read(trainer, tmp_path):
    [left] = trainer(tmp_path / "run", gradient_accumulation_steps=2_000_000_000)
    assert left.code == 2 and "Traceback" not in left.output
    assert "--gradient_accumulation_steps 2000000000 is more than the 66 windows of an epoch" in left.output
