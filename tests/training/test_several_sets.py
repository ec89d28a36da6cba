"""Runs on several named sets: each is scored by itself, weighed as asked, and a resume goes on with the same windows."""

import json

import numpy as np
import pytest
from training_runs import SPREAD, assert_same_weights, kill_after, results_of, steps_of

from qa_accel.evaluation.squad_scores import squad_scores


@pytest.fixture(scope="module")
def files(trainer):
    """The toy's training file as a set of its own and as the larger part of another; its validation file under two names."""
    train, validation = trainer.toy.train, trainer.toy.dev
    return dict(train_file=[f"a={train}", f"b={validation}:3"], validation_file=[f"x={validation}", f"y={train}"])


@pytest.fixture(scope="module")
def whole(trainer, files, tmp_path_factory):
    return trainer.whole(tmp_path_factory.mktemp("whole") / "run", **files, **SPREAD[1])


def test_each_set_is_scored_by_its_own_questions(whole, trainer):
    """Breaks if a set's scores are of other questions, or answers of equal ids are mixed up: both files number theirs alike."""
    results = results_of(whole)
    predictions = json.loads((whole / "predictions.json").read_text())
    for name, path in (("x", trainer.toy.dev), ("y", trainer.toy.train)):
        [article] = json.loads(path.read_text())["data"]
        rows = [row for paragraph in article["paragraphs"] for row in paragraph["qas"]]
        golds = {f"{name}/{row['id']}": [answer["text"] for answer in row["answers"]] for row in rows}
        alone = squad_scores({key: predictions[key] for key in golds}, golds)
        for key in ("exact", "f1", "total"):
            assert results[f"{name}_{key}"] == alone[key]
    assert results["total"] == results["x_total"] + results["y_total"] == len(predictions)
    assert results["mean_f1"] == pytest.approx((results["x_f1"] + results["y_f1"]) / 2)


def test_an_epoch_has_each_window_as_often_as_its_weight_says(whole, files, trainer):
    """b has the weight 3. Breaks if weights are of sets, not of their windows, or a window of one set counts for the other."""
    report = json.loads((whole / "data_report.json").read_text())
    steps = steps_of(whole)
    first_epoch = [line["windows_by_set"] for line in steps if line["epoch"] <= 1]
    of_a, of_b = (sum(line[name] for line in first_epoch) for name in "ab")
    windows = report["train"]["windows"]["windows"]
    assert of_b % 3 == 0 and of_a + of_b // 3 == windows
    assert all(sum(line["windows_by_set"].values()) == line["windows"] for line in steps)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_goes_on_with_the_same_windows(whole, trainer, files, processes, tmp_path):
    """Killed in the middle of an epoch and gone on with by one or two processes. Breaks if windows that come more than once are
    lost in the rest of an epoch."""
    folder, stop = tmp_path / "run", 5
    options = files | dict(save_steps=2)
    kill = (kill_after, "training.progress.Progress.advance", stop)
    trainer(folder, arrangements=[kill], **options, **SPREAD[1])
    trainer.whole(folder, processes=processes, **options, **SPREAD[1])
    windows = np.array([list(line["windows_by_set"].values()) for line in steps_of(folder)])
    expected = np.array([list(line["windows_by_set"].values()) for line in steps_of(whole)])
    assert windows.sum(axis=0).tolist() == expected.sum(axis=0).tolist()
    if processes == 1:
        assert_same_weights(folder, whole)
