"""Whole runs of the training script on the toy, in fp32, each in processes of its own.

They end with what the script leaves behind: exit codes, files, and the lines of metrics.jsonl.
"""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import WINDOWS
from trainer import Trainer, assert_same_weights, evaluations_of, kill_after, lines_of, results_of, steps_of, weights_of
from transformers import AutoModelForQuestionAnswering

from qa_accel import checkpoint, config, data, evaluation, lock, log, model, prepare, train
from qa_accel.windows import WindowConfig, Windows


def note_windows(path: Path) -> None:
    """Append the windows of each optimizer step to a file of lines, once for all ranks."""
    original = log.Log.step

    def noted(self, progress, step_plan, **numbers):
        if self.accelerator.is_main_process:
            with path.open("a") as file:
                file.write(json.dumps({"step": progress.step, "plan": step_plan.tolist()}) + "\n")
        return original(self, progress, step_plan, **numbers)

    log.Log.step = noted  # type: ignore


def score_in_turn(*f1: float) -> None:
    """Let the evaluations find these scores, one after the other."""
    to_come, original = iter(f1), evaluation.scores_of

    def scripted(*arguments, **options):
        return original(*arguments, **options) | {"f1": next(to_come)}

    evaluation.scores_of = scripted  # type: ignore


def break_weights_after(step: int) -> None:
    """Set a weight to infinity behind an optimizer step: from then on no loss is finite."""
    original = checkpoint.Progress.advance
    models: list[torch.nn.Module] = []
    train_loop = train.Run.train

    def remembered(self):
        models.append(self.model)
        train_loop(self)

    def broken(self, *arguments):
        original(self, *arguments)
        if self.step == step:
            with torch.no_grad():
                next(models[0].parameters()).fill_(torch.inf)

    train.Run.train, checkpoint.Progress.advance = remembered, broken  # type: ignore


def training_windows(trainer: Trainer) -> Windows:
    dataset = data.DataConfig(train_file=(str(trainer.toy.train),), cache_dir=str(trainer.cache))
    tokenizer = model.load_tokenizer(model.ModelConfig(str(trainer.toy.model)))
    return prepare.prepare_split(dataset, WindowConfig(**WINDOWS), tokenizer, "train").windows


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


# ------------------------------------------------------------------------------------------------------------ resume

WITH_CHECKPOINTS: dict[str, Any] = dict(save_steps=3, eval_steps=4, save_total_limit=3, learning_rate=1e-2)
SPREAD: dict[int, dict[str, Any]] = {
    1: dict(per_device_train_batch_size=4, gradient_accumulation_steps=2),
    2: dict(per_device_train_batch_size=2, gradient_accumulation_steps=2),
}
"""8 windows an optimizer step, 9 steps an epoch, 18 in all; evaluations at 4, 8, 9, 12, 16, 18, checkpoints at 3, 6, 9, ..."""

MOMENTS = {
    "before any checkpoint": ("checkpoint.Progress.advance", 2),
    "in the middle of an epoch": ("checkpoint.Progress.advance", 5),
    "at the last step of an epoch": ("checkpoint.Progress.advance", 9),
    "at the first step of the next epoch": ("checkpoint.Progress.advance", 10),
    "right after an evaluation": ("outcome.Outcome.evaluate", 4),
    "while a checkpoint is written": ("checkpoint.write_manifest", 6),
    "before the run's folder is filled": ("train.Run.train", 1),
    "while the run's folder is filled": ("report.model_card", 1),
}


@pytest.fixture(scope="module")
def uninterrupted(trainer, tmp_path_factory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return {
        processes: trainer.whole(folder / str(processes), processes=processes, **WITH_CHECKPOINTS, **spread)
        for processes, spread in SPREAD.items()
    }


@pytest.mark.parametrize(
    ("processes", "moment"),
    [(1, moment) for moment in MOMENTS]
    + [(2, "in the middle of an epoch"), (2, "right after an evaluation"), (2, "at the first step of the next epoch")],
)
def test_a_killed_run_that_is_started_again_ends_as_if_nothing_had_happened(
    trainer, uninterrupted, tmp_path, processes, moment
):
    """Dropout is on. Breaks if a window is seen twice or never, if a random state, the optimizer's moments or the
    schedule's place are lost, if lines are written twice, or if the best model is another one."""
    settings = dict(processes=processes, **WITH_CHECKPOINTS, **SPREAD[processes])
    left = trainer(tmp_path, arrangements=[(kill_after, *MOMENTS[moment])], **settings)
    assert left[0].code == -signal.SIGKILL, left[0].output
    assert not (tmp_path / "all_results.json").exists()
    trainer.whole(tmp_path, **settings)
    whole = uninterrupted[processes]
    assert lines_of(tmp_path) == lines_of(whole)
    assert_same_weights(tmp_path / "checkpoint-18", whole / "checkpoint-18")
    assert_same_weights(tmp_path, whole)
    for name in ("predictions.json", "nbest_predictions.json", "null_odds.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name
    assert results_of(tmp_path) == results_of(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_the_runs_above_leave_something_to_compare(uninterrupted):
    """Breaks if evaluations or lines are missing, if every evaluation gives the same score, or if the first is the best:
    then nothing would tell a best model that is lost on the way from one that is kept."""
    for folder in uninterrupted.values():
        assert [line["step"] for line in steps_of(folder)] == list(range(1, 19))
        assert [line["step"] for line in evaluations_of(folder)] == [4, 8, 9, 12, 16, 18]
        assert len({line["eval_f1"] for line in evaluations_of(folder)}) > 1
        assert results_of(folder)["best_step"] > 4
        assert [path.name for path in checkpoint.checkpoints(folder)] == [
            "checkpoint-12",
            "checkpoint-15",
            "checkpoint-18",
        ]


@pytest.mark.parametrize(
    ("before", "after", "batching", "batch_size", "done"),
    [
        (2, 1, "padded", 4, 4),
        (1, 2, "padded", 4, 4),
        (2, 3, "packed", 4, 4),
        (3, 1, "packed", 3, 7),  # the 3 windows that are left are longer together than any batch of the whole epoch
    ],
)
def test_resuming_on_another_number_of_ranks_sees_each_remaining_window_once(
    trainer, tmp_path, before, after, batching, batch_size, done
):
    """Breaks if the rest of the epoch is planned as if all ranks had always been there, or does not fit in the rows."""
    note = (note_windows, tmp_path / "seen.jsonl")
    settings: dict[str, Any] = dict(per_device_train_batch_size=batch_size, save_steps=done, num_train_epochs=1, seed=2)
    settings |= dict(batching=batching, validation_file=None)
    killed = trainer(
        tmp_path / "run",
        processes=before,
        arrangements=[note, (kill_after, "checkpoint.Progress.advance", done + 1)],
        **settings,
    )
    assert killed[0].code == -signal.SIGKILL, killed[0].output
    seen = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    kept = [line["plan"] for line in seen if line["step"] <= done]
    (tmp_path / "seen.jsonl").unlink()
    trainer.whole(tmp_path / "run", processes=after, arrangements=[note], **settings)
    rest = [json.loads(line)["plan"] for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    windows = np.concatenate([np.ravel(step) for step in kept + rest])
    assert len(kept) == done and np.shape(rest[0]) == (1, after, batch_size)
    assert sorted(windows[windows >= 0]) == list(range(66))
    assert steps_of(tmp_path / "run")[-1]["epoch"] == 1.0
    assert results_of(tmp_path / "run")["train_windows"] == 66


def test_a_resume_with_another_accumulation_still_steps_once_per_optimizer_step(trainer, without_dropout, tmp_path):
    """accelerate counts batches since the run began. Breaks if that count is taken over: after 3 steps of 1 batch it
    would be in the middle of a step of 2 batches, and every step would be made with half of its gradient."""
    settings: dict[str, Any] = dict(model_name_or_path=trainer.toy.without_dropout, warmup_ratio=0.2, save_steps=3)
    left = trainer(tmp_path, arrangements=[(kill_after, "checkpoint.Progress.advance", 4)], **settings)
    assert left[0].code == -signal.SIGKILL
    settings |= dict(gradient_accumulation_steps=2, per_device_train_batch_size=4)
    trainer.whole(tmp_path, "--resume_with_changed_settings", **settings)
    losses, expected = ([line["loss"] for line in steps_of(run)] for run in (tmp_path, without_dropout["one process"]))
    assert losses == pytest.approx(expected, abs=1e-4)


def test_changed_settings_are_refused_and_the_run_left_as_it_is(trainer, tmp_path):
    """Breaks if the folder's config.yaml afterwards shows settings that no step was made with."""
    settings: dict[str, Any] = dict(save_steps=3, num_train_epochs=1)
    left = trainer(tmp_path, arrangements=[(kill_after, "checkpoint.Progress.advance", 4)], **settings)
    assert left[0].code == -signal.SIGKILL
    before = {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != lock.LOCK
    }
    refused = trainer(tmp_path, learning_rate=1e-4, per_device_train_batch_size=4, **settings)[0]
    assert refused.code == 2
    assert "learning_rate: 0.003 then, 0.0001 now" in refused.output
    assert "per_device_train_batch_size: 8 then, 4 now" in refused.output
    assert {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != lock.LOCK
    } == before


@pytest.mark.parametrize("step", [12, 18])
def test_a_checkpoint_of_another_folder_can_be_continued_although_its_best_model_is_not_here(
    trainer, uninterrupted, tmp_path, step
):
    """Breaks if a run looks for the best model that another folder has: it would fail after all of the training. At step
    18 nothing is left to train, but the model still is to be scored."""
    source = uninterrupted[1] / f"checkpoint-{step}"
    trainer.whole(tmp_path, **WITH_CHECKPOINTS, **SPREAD[1], resume_from_checkpoint=source)
    assert steps_of(tmp_path) == steps_of(uninterrupted[1])[step:]
    assert results_of(tmp_path)["best_step"] in [line["step"] for line in evaluations_of(tmp_path)]
    assert results_of(tmp_path)["f1"] == max(line["eval_f1"] for line in evaluations_of(tmp_path))
    assert (tmp_path / "predictions.json").exists()


def test_a_finished_run_is_refused_and_left_as_it_is(trainer, uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted[1], tmp_path / "finished")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    left = trainer(folder, learning_rate=1.0)[0]
    assert left.code == 2
    assert "holds a finished run (all_results.json)" in left.output and "--overwrite_output_dir" in left.output
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_overwriting_starts_at_the_first_step_and_leaves_nothing_of_the_former_run(trainer, uninterrupted, tmp_path):
    """The new run has no validation data. Breaks if the old run's predictions stay and pass for the new model's."""
    folder = shutil.copytree(uninterrupted[1], tmp_path / "finished")
    trainer.whole(folder, "--overwrite_output_dir", max_train_steps=2, validation_file=None)
    assert [line["step"] for line in steps_of(folder)] == [1, 2]
    assert [path.name for path in checkpoint.checkpoints(folder)] == ["checkpoint-2"]
    assert not (folder / "predictions.json").exists()


def test_a_mistake_in_the_data_does_not_cost_the_run_that_was_to_be_overwritten(trainer, uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted[1], tmp_path / "finished")
    before = sorted(folder.rglob("*"))
    left = trainer(folder, "--overwrite_output_dir", train_file="nowhere.json")[0]
    assert left.code == 2 and "nowhere.json" in left.output
    assert sorted(folder.rglob("*")) == before


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
    """20, 30, 30, 25: the best is the second; patience 2 is over at the fourth, step 4. Equal is no gain."""
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


def test_the_resolved_settings_and_the_tuned_threshold_are_left_beside_the_model(uninterrupted):
    folder = uninterrupted[1]
    resolved = config.parse(train.TrainConfig, ["--config", str(folder / "config.yaml")])
    assert (folder / "config.yaml").read_text() == config.dump(resolved)
    assert resolved.loop.per_device_train_batch_size == 4 and resolved.optim.learning_rate == 1e-2
    threshold = json.loads((folder / "config.json").read_text())["null_score_diff_threshold"]
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
    dataset = data.DataConfig(train_file=(str(trainer.toy.train),), cache_dir=str(trainer.cache))
    ids = data.load_questions(dataset, "train")["id"][:]
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
