"""Training runs that leave out windows without answer: what an epoch has, before and after a kill, and what is said of it."""

import json
import shutil
import signal
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_runs import assert_same_weights, kill_after, lines_of, note_windows, results_of, steps_of

RATIO = 0.3
SETTINGS: dict[str, Any] = dict(negative_window_ratio=RATIO, num_train_epochs=3, save_steps=2, validation_file=None)
"""66 windows, 40 with an answer: 12 others in each epoch, 52 windows in 7 steps of 8."""
SAVES = 6
"""Of steps 2, 4, 6, 7 (the epoch's end), 8, 10: then it is killed, three steps into the second epoch."""


def noted(path: Path) -> list[list[int]]:
    """The windows of each step."""
    steps = [json.loads(line)["plan"] for line in path.read_text().splitlines()]
    return [[window for window in np.ravel(step).tolist() if window >= 0] for step in steps]


@pytest.fixture(scope="module", params=["padded", "packed"])
def runs(request, trainer, tmp_path_factory) -> tuple[Path, Path, dict[str, Any]]:
    """A whole run, one that was killed, and their settings."""
    folder, settings = tmp_path_factory.mktemp(request.param), SETTINGS | {"batching": request.param}
    trainer.whole(folder / "whole", arrangements=[(note_windows, folder / "whole.jsonl")], **settings)
    kill = (kill_after, "training.checkpoint.rotate", SAVES)
    left = trainer(folder / "killed", arrangements=[kill, (note_windows, folder / "killed.jsonl")], **settings)
    assert left[0].code == -signal.SIGKILL, left[0].output
    return folder / "whole", folder / "killed", settings


def test_each_epoch_has_all_windows_with_an_answer_and_others_in_turn(runs):
    """Breaks if an epoch has every window, if all epochs have the same others, or if they are counted in other epochs."""
    whole, _, _ = runs
    steps = noted(whole.with_suffix(".jsonl"))
    assert len(steps) == 21 and results_of(whole)["steps"] == 21 and results_of(whole)["train_windows"] == 156
    epochs = [sorted(chain(*steps[begin : begin + 7])) for begin in (0, 7, 14)]
    assert all(len(set(epoch)) == len(epoch) == 52 for epoch in epochs)
    always = set(epochs[0]) & set(epochs[1]) & set(epochs[2])
    assert len(always) == 40
    assert len(set().union(*epochs) - always) == 26, "12 of the 26 others in each of three epochs: all of them"
    assert [line["epoch"] for line in steps_of(whole)][6::7] == [1.0, 2.0, 3.0]
    report = json.loads((whole / "data_report.json").read_text())["train"]["windows"]
    assert (report["windows"], report["windows_with_answer"]) == (66, 40)
    assert report["epoch"] == {"with_answer": 40, "without_answer": 12}


def test_a_killed_run_that_is_started_again_ends_as_if_nothing_had_happened(runs, trainer, tmp_path):
    """Dropout is on. Breaks if the epoch goes on with windows of another draw."""
    whole, killed, settings = runs
    folder = shutil.copytree(killed, tmp_path / "run")
    trainer.whole(folder, **settings)
    assert lines_of(folder) == lines_of(whole)
    assert_same_weights(folder, whole)
    assert_same_weights(folder / "checkpoint-21", whole / "checkpoint-21")


def test_the_rest_on_two_ranks_has_the_windows_that_one_rank_has_left(runs, trainer, tmp_path):
    """Breaks if the rest of the epoch is planned from all windows, or from those of another number of ranks."""
    whole, killed, settings = runs
    folder = shutil.copytree(killed, tmp_path / "run")
    settings = settings | {"per_device_train_batch_size": 8}
    trainer.whole(folder, processes=2, arrangements=[(note_windows, tmp_path / "rest.jsonl")], **settings)
    expected, rest = noted(whole.with_suffix(".jsonl")), noted(tmp_path / "rest.jsonl")
    done = steps_of(folder)[: -len(rest)]
    assert len(done) == 10
    left = sorted(chain(*expected[len(done) : 14]))
    in_second = -(-len(left) // 16)  # steps of 16 windows now
    assert sorted(chain(*rest[:in_second])) == left
    assert sorted(chain(*rest[in_second:])) == sorted(chain(*expected[14:]))
    assert results_of(folder)["train_windows"] == 156


def test_another_ratio_is_another_run(runs, trainer, tmp_path):
    """Breaks if a checkpoint does not know with which windows it was made: in both directions, there and not there."""
    _, killed, settings = runs
    folder = shutil.copytree(killed, tmp_path / "run")
    for ratio, now in ((None, "None"), (0.4, "0.4")):
        left = trainer(folder, **settings | {"negative_window_ratio": ratio})[0]
        assert left.code == 2, left.output
        assert f"negative_window_ratio: 0.3 then, {now} now" in left.output
