"""predict.py and prepare.py write only where nobody else does, and never over a training run."""

import json
from pathlib import Path

import pytest
from launches import only_message, refused
from toy import WINDOWS, flags

from qa_accel.distributed import run_folder


@pytest.fixture(scope="module")
def predicting(toy, tmp_path_factory) -> list[str]:
    """All flags but --output_dir."""
    return flags(model_name_or_path=toy.model, test_file=toy.dev, cache_dir=tmp_path_factory.mktemp("cache"), **WINDOWS)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("stopped", [True, False])
def test_the_folder_of_a_training_run_is_refused_and_left_as_it_is(stopped, trainer, predicting, tmp_path):
    """Stopped after its first step, or finished. Breaks if scores are written into it: the run could not go on, or its
    recipe, scores and predictions would be those of other questions."""
    run = tmp_path / "run"
    steps = dict(max_train_hours=1e-7) if stopped else dict(max_train_steps=2)
    [left] = trainer(run, **steps)
    assert left.code == 0, left.output
    before = contents(run)
    assert ("all_results.json" in before) == (not stopped)
    message = only_message(refused("predict.py", *predicting, "--output_dir", run)[0])
    assert f"--output_dir {run} is the folder of a training run" in message and "another folder" in message
    assert contents(run) == before


@pytest.mark.parametrize("left_behind", ["metrics.jsonl", "data_report.json", "best", "checkpoint-12", "stopped.json"])
def test_one_trace_of_a_run_is_enough(left_behind, predicting, tmp_path):
    """A run that was killed early, or cleaned up by hand."""
    (tmp_path / left_behind).mkdir()
    message = only_message(refused("predict.py", *predicting, "--output_dir", tmp_path)[0])
    assert f"it holds {left_behind}" in message


def test_answers_replace_former_answers_but_not_those_that_are_being_written(predicting, tmp_path):
    """This process holds the folder as another predict.py would. Breaks if two of them mix their files, or if the line
    that names the folder takes it for markup."""
    folder = tmp_path / "[red]\x1b[2J[b]"
    for _ in range(2):
        [left] = refused("predict.py", *predicting, "--output_dir", folder)  # it is not: it ends well
        assert left.code == 0, left.output
        assert f"answers: {tmp_path}/[red]\\x1b[2J[b]/predictions.json" in left.output
    before = contents(folder)
    assert {"predictions.json", "all_results.json", "config.yaml"} <= before.keys()
    run_folder.hold(folder)
    message = only_message(refused("predict.py", *predicting, "--output_dir", folder)[0])
    assert (
        f"another run is writing {tmp_path}/[red]\\x1b[2J[b]: process " in message and "another --output_dir" in message
    )
    after = contents(folder)
    del before[run_folder.LOCK], after[run_folder.LOCK]
    assert after == before


def test_prepare_finds_a_folder_that_is_held_or_cannot_be_written_before_it_works(toy, tmp_path):
    words = flags(model_name_or_path=toy.model, train_file=toy.train, cache_dir=tmp_path / "cache", **WINDOWS)
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        [left] = refused("prepare.py", *words, "--output_dir", folder)
        assert f"--output_dir {folder} cannot be written" in only_message(left)
    held = tmp_path / "held"
    held.mkdir()
    run_folder.hold(held)
    assert f"another run is writing {held}" in only_message(refused("prepare.py", *words, "--output_dir", held)[0])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("threshold", "empty"), [("inf", 0), ("-inf", 30)])
def test_an_infinite_threshold_means_never_and_always_no_answer(threshold, empty, predicting, tmp_path):
    """30 questions, 10 of them without answer, each context with valid spans. Breaks if JSON, which has no infinity, ends
    the run after its predictions are written."""
    words = [*predicting, "--null_score_diff_threshold", threshold, "--output_dir", tmp_path]
    [left] = refused("predict.py", *words)  # it is not: it ends well
    assert left.code == 0 and "Traceback" not in left.output, left.output
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert sum(text == "" for text in predictions.values()) == empty and len(predictions) == 30
    scores = json.loads((tmp_path / "all_results.json").read_text())
    assert scores["null_score_diff_threshold"] == threshold
    assert scores["NoAns_exact"] == (0.0 if threshold == "inf" else 100.0)
    [again] = refused("predict.py", "--config", tmp_path / "config.yaml", "--output_dir", tmp_path / "again")
    assert again.code == 0, again.output
    assert (tmp_path / "again" / "predictions.json").read_bytes() == (tmp_path / "predictions.json").read_bytes()


def test_a_run_is_evaluated_with_an_infinite_threshold_too(trainer, tmp_path):
    """Breaks if its scores cannot be written: after the training, with a traceback."""
    [left] = trainer(tmp_path / "run", max_train_steps=2, null_score_diff_threshold="inf")
    assert left.code == 0, left.output
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["null_score_diff_threshold"] == "inf" and results["NoAns_exact"] == 0.0
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


@pytest.mark.parametrize("name", ["runs-[/]", "x[red]y", "a\x1b[2Jb", "two\nlines", "-dash"])
def test_a_run_trains_stops_and_goes_on_in_a_folder_of_any_name(name, trainer, tmp_path):
    """Breaks if a line that names the folder takes it for markup: behind a finished run, or at every later start."""
    folder = tmp_path / name
    [left] = trainer(folder, max_train_steps=3, save_steps=1, eval_steps=1, arrangements=[(stop_at, folder / "STOP")])
    assert "stopped at step" in left.output and not (folder / "all_results.json").exists()
    [left] = trainer(folder, max_train_steps=3, save_steps=1, eval_steps=1)
    assert left.code == 0 and "resumed from" in left.output and "finished" in left.output
    assert "\x1b[2J" not in left.output and (folder / "all_results.json").exists()


def stop_at(path: Path) -> None:
    from training_runs import touch_at

    touch_at(path, 1)
