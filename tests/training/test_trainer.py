"""Whole runs of the training script on the toy, in fp32, each in separate processes.

They end with what the script leaves behind: exit codes, files, and the lines of metrics.jsonl.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import WINDOWS
from training_runs import (
    SPREAD,
    Trainer,
    assert_same_weights,
    evaluations_of,
    note_windows,
    results_of,
    score_in_turn,
    steps_of,
    weights_of,
)
from transformers import AutoModelForQuestionAnswering

from qa_accel import config
from qa_accel.data import questions, splits
from qa_accel.data.settings import WindowConfig
from qa_accel.data.windows import Windows
from qa_accel.models import loading
from qa_accel.training import checkpoint
from qa_accel.training import trainer as trainer_module
from qa_accel.training.progress import Progress


def break_weights_after(step: int) -> None:
    """Set a weight to infinity after an optimizer step: from then on no loss is finite."""
    original = Progress.advance
    models: list[torch.nn.Module] = []
    train_loop = trainer_module.Trainer.train

    def remembered(self):
        models.append(self.model)
        train_loop(self)

    def broken(self, *arguments, **options):
        original(self, *arguments, **options)
        if self.step == step:
            with torch.no_grad():
                next(models[0].parameters()).fill_(torch.inf)

    trainer_module.Trainer.train, Progress.advance = remembered, broken  # type: ignore


def training_windows(trainer: Trainer) -> Windows:
    dataset = questions.DataConfig(train_file=(str(trainer.toy.train),), cache_dir=str(trainer.cache))
    tokenizer = loading.load_tokenizer(loading.ModelConfig(str(trainer.toy.model)))
    return splits.prepare_split(dataset, WindowConfig(**WINDOWS), tokenizer, "train").windows


# ------------------------------------------------------------------------------------------------ one step's meaning


@pytest.fixture(scope="module")
def without_dropout(trainer, tmp_path_factory) -> dict[str, Path]:
    """The same run in three layouts of 8 windows per optimizer step. Dropout is off: its draws differ by layout."""
    folder = tmp_path_factory.mktemp("layouts")
    settings: dict[str, Any] = dict(model_name_or_path=trainer.toy.without_dropout, warmup_ratio=0.2)
    layouts = {
        "one process": dict(per_device_train_batch_size=8),
        "two processes": dict(per_device_train_batch_size=4, processes=2),
        "accumulation": dict(per_device_train_batch_size=4, gradient_accumulation_steps=2),
    }
    return {name: trainer.whole(folder / name, **settings, **layout) for name, layout in layouts.items()}


@pytest.mark.parametrize("layout", ["two processes", "accumulation"])
def test_a_step_is_the_same_however_its_windows_are_spread(without_dropout, layout):
    """Breaks if a mean of means is taken (the last step has 2 windows, of which one rank may have more), if ranks or
    accumulated batches are not divided out, or if what fills a batch counts."""
    one, other = steps_of(without_dropout["one process"]), steps_of(without_dropout[layout])
    assert len(one) == len(other) == 18
    assert one[8]["windows"] == 2, "the last step of an epoch is not full, or this test proves little"
    for line, same in zip(one, other):
        assert line["loss"] == pytest.approx(same["loss"], abs=1e-5)
        assert line["grad_norm"] == pytest.approx(same["grad_norm"], rel=1e-4)
        equal = ("step", "epoch", "learning_rate", "windows", "tokens")
        assert [line[key] for key in equal] == [same[key] for key in equal]


WITHOUT_GRADIENT = ("qa_outputs.bias", "bert.encoder.layer.1.output.LayerNorm.bias")
"""These, and the biases of keys, add the same to all that a softmax compares. Their gradient is 0 but for rounding, and
AdamW makes full steps of the rounding's sign."""


@pytest.mark.parametrize("layout", ["two processes", "accumulation"])
def test_a_run_ends_with_the_same_weights_however_its_windows_are_spread(without_dropout, layout):
    one, other = (weights_of(without_dropout[name] / "checkpoint-18") for name in ("one process", layout))
    for name, weight in one.items():
        if name in WITHOUT_GRADIENT or name.endswith("attention.self.key.bias"):
            continue
        torch.testing.assert_close(
            weight, other[name], atol=1e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_steps_loss_is_the_mean_over_its_windows_worked_out_one_by_one(trainer, tmp_path):
    """The learning rate is next to nothing, so that the model stays what it was. Breaks if what fills the last batch
    counts, if padding is part of a softmax, or if labels point elsewhere once windows are batched."""
    settings: dict[str, Any] = dict(model_name_or_path=trainer.toy.without_dropout, learning_rate=1e-12)
    settings |= dict(num_train_epochs=1, validation_file=None, per_device_train_batch_size=3)
    note = (note_windows, tmp_path / "seen.jsonl")
    trainer.whole(tmp_path / "run", processes=2, arrangements=[note], gradient_accumulation_steps=2, **settings)
    plain = AutoModelForQuestionAnswering.from_pretrained(trainer.toy.without_dropout).eval()
    windows = training_windows(trainer)

    def loss_of(w: int) -> float:
        tokens = slice(windows.begin_W[w], windows.begin_W[w + 1])
        ids, types = (
            torch.tensor(x[tokens][None].astype(int)) for x in (windows.input_ids_N, windows.token_type_ids_N)
        )
        with torch.no_grad():
            found = plain(input_ids=ids, token_type_ids=types)
        start, end = (logits[0].log_softmax(-1) for logits in (found.start_logits, found.end_logits))
        return -(start[windows.start_W[w]] + end[windows.end_W[w]]).item() / 2

    seen = [json.loads(line)["plan"] for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    steps = steps_of(tmp_path / "run")
    assert len(seen) == len(steps) == 6 and steps[-1]["windows"] == 6, "half of the last step is fill"
    for line, step in zip(steps, seen):
        losses = [loss_of(w) for w in np.ravel(step) if w >= 0]
        assert line["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_training_moves_the_loss_down(without_dropout):
    losses = [line["loss"] for line in steps_of(without_dropout["one process"])]
    assert sum(losses[-4:]) < sum(losses[:4]) * 0.8


# ---------------------------------------------------------------------------------- which model, how long, what else


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("best", "kept"), [(True, 4), (False, 8)])
def test_the_model_that_is_left_is_the_best_one_or_the_last(trainer, tmp_path, best, kept, processes):
    """F1 is 10, 50, 30, 40 after steps 2, 4, 6, 8. Breaks if ranks disagree on the best, or the wrong weights are kept."""
    trainer.whole(
        tmp_path,
        *(() if best else ("--no_load_best_model_at_end",)),
        processes=processes,
        arrangements=[(score_in_turn, 10.0, 50.0, 30.0, 40.0)],
        **dict(eval_steps=2, save_steps=2, save_total_limit=9, max_train_steps=8, num_train_epochs=9),
        per_device_train_batch_size=8 // processes,
    )
    assert [line["eval_f1"] for line in evaluations_of(tmp_path)] == [10, 50, 30, 40]
    assert_same_weights(tmp_path, tmp_path / f"checkpoint-{kept}")
    results = results_of(tmp_path)
    assert results["best_step"] == 4 and results["steps"] == 8
    assert results["f1"] == (50 if best else 40), "the scores are those of the model that is left"


@pytest.mark.parametrize("processes", [1, 2])
def test_patience_ends_the_run_after_so_many_evaluations_without_gain(trainer, tmp_path, processes):
    """20, 30, 30, 25: the second is the best; patience 2 ends at the fourth, step 4. An equal score is no gain."""
    trainer.whole(
        tmp_path,
        processes=processes,
        arrangements=[(score_in_turn, 20.0, 30.0, 30.0, 25.0)],
        **dict(eval_steps=1, early_stopping_patience=2, num_train_epochs=5),
    )
    assert [line["step"] for line in steps_of(tmp_path)] == [1, 2, 3, 4]
    assert results_of(tmp_path)["stopped_early"] is True
    assert results_of(tmp_path)["best_step"] == 2
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-4"]


@pytest.mark.parametrize(("wanted", "epoch"), [(5, 40 / 66), (12, (66 + 24) / 66)])
def test_max_train_steps_counts_optimizer_steps_of_the_whole_run(trainer, tmp_path, wanted, epoch):
    """9 steps are an epoch. Breaks if batches are counted, or if the schedule ends elsewhere than the run."""
    settings = dict(per_device_train_batch_size=4, gradient_accumulation_steps=2, max_train_steps=wanted)
    trainer.whole(tmp_path, num_train_epochs=1, **settings)
    steps = steps_of(tmp_path)
    assert [line["step"] for line in steps] == list(range(1, wanted + 1))
    assert steps[-1]["epoch"] == round(epoch, 4)
    rates = [line["learning_rate"] for line in steps]
    assert rates == pytest.approx([3e-3 * (1 - step / wanted) for step in range(wanted)])
    assert evaluations_of(tmp_path)[-1]["step"] == wanted


def test_without_validation_data_the_last_model_is_left_and_nothing_is_scored(trainer, tmp_path):
    trainer.whole(tmp_path, validation_file=None, num_train_epochs=1)
    assert evaluations_of(tmp_path) == []
    assert_same_weights(tmp_path, tmp_path / "checkpoint-9")
    assert results_of(tmp_path)["steps"] == 9 and "f1" not in results_of(tmp_path)
    assert not (tmp_path / "predictions.json").exists()
    assert json.loads((tmp_path / "config.json").read_text()).get("null_score_diff_threshold") is None


def test_the_resolved_settings_and_the_tuned_threshold_are_written_next_to_the_model(trainer, tmp_path):
    folder = trainer.whole(tmp_path, eval_steps=4, learning_rate=1e-2, **SPREAD[1])
    resolved = config.parse(trainer_module.TrainConfig, ["--config", str(folder / "config.yaml")])
    assert (folder / "config.yaml").read_text() == config.dump(resolved)
    assert resolved.loop.per_device_train_batch_size == 4 and resolved.optim.learning_rate == 1e-2
    threshold = json.loads((folder / "config.json").read_text())["answer_policy"]["null_score_diff_threshold"]
    assert threshold == results_of(folder)["best_f1_thresh"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_run_with_all_that_is_needed_to_look_into_it(trainer, tmp_path, processes):
    """The weights break after step 3. Breaks if the run goes on, or if step 4 is saved before anyone looks."""
    settings: dict[str, Any] = dict(save_steps=2, logging_steps=50, learning_rate=2e-3, validation_file=None)
    seen = tmp_path / "seen.jsonl"
    left = trainer(
        tmp_path / "run",
        processes=processes,
        arrangements=[(note_windows, seen), (break_weights_after, 3)],
        per_device_train_batch_size=8 // processes,
        **settings,
    )
    assert left[0].code == 2
    message = left[0].output
    rate = 2e-3 * (1 - 3 / 18)
    assert f"step 4 (epoch {round(32 / 66, 4)})" in message and f"learning rate {rate:.3g}" in message
    dataset = questions.DataConfig(train_file=(str(trainer.toy.train),), cache_dir=str(trainer.cache))
    ids = questions.load_questions(dataset, "train")["id"][:]
    named = {key for key in ids if key + "," in message or key + "." in message}
    in_step = np.ravel(json.loads(seen.read_text().splitlines()[3])["plan"])
    assert 0 < len(named) <= len(in_step) == 8
    assert named == {ids[row] for row in training_windows(trainer).question_W[in_step]}
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "run")] == ["checkpoint-2"]
    assert checkpoint.damage_of(tmp_path / "run" / "checkpoint-2") is None
    assert [line["step"] for line in steps_of(tmp_path / "run")] == [1, 2]
    trainer.whole(tmp_path / "run", processes=processes, per_device_train_batch_size=8 // processes, **settings)
    assert len(steps_of(tmp_path / "run")) == 18, "the run goes on from there"


def test_a_learning_rate_that_is_far_too_high_stops_the_run(trainer, tmp_path):
    left = trainer(tmp_path, learning_rate=1e35, logging_steps=1)[0]
    assert left.code == 2
    assert "learning rate" in left.output and "train-" in left.output
    assert not (tmp_path / "all_results.json").exists()


def test_a_tracker_gets_the_numbers_and_no_secret(trainer, tmp_path):
    """Breaks if keys that trackers and hubs take from the environment end in a run's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    secrets = {"WANDB_API_KEY": "key-3f9a71", "HF_TOKEN": "hf_77c1d0aa", "COMET_API_KEY": "comet-5512"}
    trainer.whole(tmp_path, report_to="tensorboard", environment=secrets, max_train_steps=5)
    events = [path for path in tmp_path.rglob("events.out.*") if path.stat().st_size > 500]
    tags: dict[str, list] = {}
    for path in events:
        loaded = EventAccumulator(str(path)).Reload()
        tags |= {tag: loaded.Scalars(tag) for tag in loaded.Tags()["scalars"]}
    steps = steps_of(tmp_path)
    for name in ("loss", "learning_rate", "grad_norm", "padding"):
        assert [event.step for event in tags[name]] == [1, 2, 3, 4, 5]
        assert [event.value for event in tags[name]] == pytest.approx([line[name] for line in steps])
    assert [event.value for event in tags["eval_f1"]] == pytest.approx([evaluations_of(tmp_path)[0]["eval_f1"]])
    assert {"windows_per_second", "tokens_per_second"} <= tags.keys()
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(secret.encode() in content for secret in secrets.values()), path
