"""A run that is killed and started again ends as if nothing had happened; one that must not go on is left as it is."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_runs import (
    SPREAD,
    assert_same_weights,
    evaluations_of,
    kill_after,
    lines_of,
    note_windows,
    results_of,
    steps_of,
)

from qa_accel.distributed import run_folder
from qa_accel.training import checkpoint

WITH_CHECKPOINTS: dict[str, Any] = dict(save_steps=3, eval_steps=4, save_total_limit=3, learning_rate=1e-2)
"""Evaluations at 4, 8, 9, 12, 16, 18, checkpoints at 3, 6, 9, ..."""

MOMENTS = {
    "before any checkpoint": ("training.progress.Progress.advance", 2),
    "in the middle of an epoch": ("training.progress.Progress.advance", 5),
    "at the last step of an epoch": ("training.progress.Progress.advance", 9),
    "at the first step of the next epoch": ("training.progress.Progress.advance", 10),
    "right after an evaluation": ("training.evaluator.Evaluator.evaluate", 4),
    "while a checkpoint is written": ("training.checkpoint.write_manifest", 6),
    "before the run's folder is filled": ("training.trainer.Trainer.train", 1),
    "while the run's folder is filled": ("reporting.model_card.CardOfRun.text", 1),
    "between a file's link and its final name": ("training.export.files.os.link", 2),
}


@pytest.fixture(scope="module")
def uninterrupted(trainer, tmp_path_factory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return {
        processes: trainer.whole(
            folder / str(processes),
            processes=processes,
            arrangements=[(os.umask, 0o022)],
            **WITH_CHECKPOINTS,
            **spread,
        )
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


def test_all_files_of_a_run_have_the_mode_that_the_umask_gives(uninterrupted):
    """Breaks if others may read config.json and not the weights, which safetensors makes private."""
    for folder in uninterrupted.values():
        modes = {
            str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()
        }
        assert {"model.safetensors", "checkpoint-18/model.safetensors", "checkpoint-18/manifest.json"} <= modes.keys()
        assert modes == dict.fromkeys(modes, 0o644)


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
        arrangements=[note, (kill_after, "training.progress.Progress.advance", done + 1)],
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


def test_a_resume_with_another_accumulation_still_steps_once_per_optimizer_step(trainer, tmp_path):
    """accelerate counts batches since the run began. Breaks if that count is taken over: after 3 steps of 1 batch it
    would be in the middle of a step of 2 batches, and every step would be made with half of its gradient."""
    settings: dict[str, Any] = dict(model_name_or_path=trainer.toy.without_dropout, warmup_ratio=0.2, save_steps=3)
    whole, folder = trainer.whole(tmp_path / "whole", **settings), tmp_path / "killed"
    left = trainer(folder, arrangements=[(kill_after, "training.progress.Progress.advance", 4)], **settings)
    assert left[0].code == -signal.SIGKILL
    settings |= dict(gradient_accumulation_steps=2, per_device_train_batch_size=4)
    trainer.whole(folder, "--resume_with_changed_settings", **settings)
    losses, expected = ([line["loss"] for line in steps_of(run)] for run in (folder, whole))
    assert losses == pytest.approx(expected, abs=1e-4)


def test_a_resume_with_nothing_left_of_its_epoch_continues_with_the_next(trainer, tmp_path):
    """Six steps of 8 windows were made; with steps of 64 the epoch has two, so that none of it is left. Breaks if the loop
    waits for a step of that epoch, which never comes (it then spins until the test's limit)."""
    settings: dict[str, Any] = dict(save_steps=6, **SPREAD[1])
    left = trainer(tmp_path, arrangements=[(kill_after, "training.progress.Progress.advance", 7)], **settings)
    assert left[0].code == -signal.SIGKILL
    settings |= dict(per_device_train_batch_size=32, gradient_accumulation_steps=2)
    trainer.whole(tmp_path, "--resume_with_changed_settings", **settings)
    results = results_of(tmp_path)
    assert (results["steps"], results["epochs"]) == (8, 2)


def test_changed_settings_are_refused_and_the_run_left_as_it_is(trainer, tmp_path):
    """Breaks if the folder's config.yaml afterwards shows settings that no step was made with."""
    settings: dict[str, Any] = dict(save_steps=3, num_train_epochs=1)
    left = trainer(tmp_path, arrangements=[(kill_after, "training.progress.Progress.advance", 4)], **settings)
    assert left[0].code == -signal.SIGKILL
    before = {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != run_folder.LOCK
    }
    refused = trainer(tmp_path, learning_rate=1e-4, per_device_train_batch_size=4, **settings)[0]
    assert refused.code == 2
    assert "learning_rate: 0.003 then, 0.0001 now" in refused.output
    assert "per_device_train_batch_size: 8 then, 4 now" in refused.output
    assert {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != run_folder.LOCK
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


def test_a_named_checkpoint_that_is_not_there_ends_all_ranks(trainer, tmp_path):
    """One rank looks for it, for all. Breaks if the others go on without, or wait for it until the timeout."""
    left = trainer(tmp_path / "run", processes=2, resume_from_checkpoint=tmp_path / "nowhere", **SPREAD[2])
    assert left[0].code == 2 and "nowhere: there is no such folder" in left[0].output
    assert left[1].code != 0 and not (tmp_path / "run" / "config.yaml").exists()
