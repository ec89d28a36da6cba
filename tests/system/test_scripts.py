"""The scripts as users start them, and what they leave behind."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from launches import SCRIPTS, SECONDS, TWO_ON_ONE_CPU, finish, launched, only_message, refused, start, training_flags
from speed import scaled
from toy import WINDOWS, flags
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from qa_accel.distributed import run_folder
from qa_accel.training import checkpoint


@pytest.fixture(scope="module")
def training(toy, tmp_path_factory) -> list[str]:
    return training_flags(toy, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def trained(toy, training, tmp_path_factory) -> Path:
    """A run on two processes that accelerate launched."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    launched("train.py", *training, "--output_dir", folder)
    return folder


OF_A_MODEL = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
OF_PREDICTION = {"predictions.json", "nbest_predictions.json", "null_odds.json"}
OF_A_RUN = {"README.md", "all_results.json", "config.yaml", "data_report.json", "environment.json", "metrics.jsonl"}
OF_REPORTS = {"report.html", "error_analysis.json"}


def test_a_launched_run_leaves_exactly_these_files(trained):
    """66 windows in steps of 2 processes x 4 windows x 2 batches: 5 steps an epoch. Breaks if something half written or of
    no use stays, or a name that users rely on changes."""
    names = {path.name for path in trained.iterdir()}
    assert names == OF_A_MODEL | OF_PREDICTION | OF_A_RUN | OF_REPORTS | {
        "checkpoint-5",
        "checkpoint-10",
        run_folder.LOCK,
    }
    of_ranks = {"random_states_0.pkl", "random_states_1.pkl"}
    for step in (5, 10):
        names = {path.name for path in (trained / f"checkpoint-{step}").iterdir()}
        assert names == {"model.safetensors", "optimizer.bin", "progress.json", "manifest.json"} | of_ranks


def test_metrics_jsonl_has_a_line_for_each_step_and_evaluation(trained):
    """Breaks if both ranks write, or a step has no line."""
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 11))
    assert [line["step"] for line in lines if "eval_f1" in line] == [3, 5, 6, 9, 10]
    assert len(lines) == 15
    step = {"step", "epoch", "loss", "learning_rate", "grad_norm", "windows", "tokens", "padding"}
    assert all(line.keys() == step | {"windows_per_second", "tokens_per_second"} for line in lines if "loss" in line)


def test_the_time_of_a_run_is_accounted_for(trained):
    """Breaks if a stage is counted twice or not at all, or the clock starts after the imports, which take seconds."""
    results = json.loads((trained / "all_results.json").read_text())
    stages = results["seconds_of"]
    assert list(stages) == ["imports", "start", "data", "model", "first step", "steps", "evaluation", "saving", "end"]
    assert sum(stages.values()) == pytest.approx(results["seconds"], abs=0.5) and stages["imports"] > 1


def test_the_model_loads_anywhere_and_carries_its_threshold(trained):
    model, info = AutoModelForQuestionAnswering.from_pretrained(trained, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    results = json.loads((trained / "all_results.json").read_text())
    assert model.config.answer_policy["null_score_diff_threshold"] == pytest.approx(results["best_f1_thresh"])
    assert AutoTokenizer.from_pretrained(trained).is_fast


def test_score_py_finds_the_scores_that_training_wrote(trained, toy):
    words = ["--validation_file", toy.dev, "--predictions_file", trained / "predictions.json"]
    scored = json.loads(finish(start([sys.executable, SCRIPTS / "score.py", *words])))
    results = json.loads((trained / "all_results.json").read_text())
    for key in ("exact", "f1", "total", "HasAns_f1", "NoAns_f1"):
        assert scored[key] == pytest.approx(results[key], abs=1e-9), key
    assert scored["total"] == 30


def test_a_finished_run_is_refused_unless_it_is_to_be_overwritten(trained, training):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    message = only_message(refused("train.py", *training, "--output_dir", trained)[0])
    assert str(trained) in message and "--overwrite_output_dir" in message
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_predictions_are_the_same_bytes_from_one_and_from_three_processes(trained, toy, training, tmp_path):
    """At 36 windows in batches of 5 the last of three ranks has fewer batches and the last batch is not full."""
    cache = training[training.index("--cache_dir") + 1]
    for processes in (1, 3):
        words = flags(model_name_or_path=trained, test_file=toy.dev, cache_dir=cache, **WINDOWS)
        words += flags(output_dir=tmp_path / str(processes), per_device_eval_batch_size=5)
        launched("predict.py", *words, processes=processes)
    one, three = tmp_path / "1", tmp_path / "3"
    for name in sorted(OF_PREDICTION | {"all_results.json"}):
        assert (one / name).read_bytes() == (three / name).read_bytes(), name
    assert {path.name for path in three.iterdir()} == OF_PREDICTION | {
        *("all_results.json", "config.yaml", "environment.json", ".lock")
    }
    threshold = json.loads((trained / "config.json").read_text())["answer_policy"]["null_score_diff_threshold"]
    assert json.loads((one / "all_results.json").read_text())["null_score_diff_threshold"] == threshold


def test_what_prepare_py_made_is_not_made_again(toy, tmp_path):
    """Neither by training nor by a second training run with another learning rate and folder, nor by going on after a
    kill. Breaks if the cache depends on anything but data, tokenizer and window settings."""
    cache = tmp_path / "cache"
    settings = flags(model_name_or_path=toy.model, train_file=toy.train, validation_file=toy.dev, cache_dir=cache)
    settings += flags(**WINDOWS, max_train_steps=2)
    process = start([sys.executable, SCRIPTS / "prepare.py", *settings, "--output_dir", tmp_path / "prepared"])
    output = finish(process)
    assert process.returncode == 0, output
    assert "Tokenizing" in output, "this is what does not come again below"
    assert (tmp_path / "prepared" / "data_report.json").exists()

    def state_of_cache() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*")}

    made = state_of_cache()
    assert sum(name.startswith("windows-") for name in made) == 2
    for folder, rate in (("prepared", 1e-3), ("another", 1e-4)):
        words = [*settings, "--learning_rate", rate, "--output_dir", tmp_path / folder]
        [left] = refused("train.py", *words)  # it is not: it ends well
        assert left.code == 0, left.output
        assert "Tokenizing" not in left.output
        assert state_of_cache() == made
    (tmp_path / "another" / "all_results.json").unlink()
    [left] = refused("train.py", *words)
    assert left.code == 0 and "resumed from" in left.output and "Tokenizing" not in left.output
    assert state_of_cache() == made
    [left] = refused("train.py", *words, "--doc_stride", "8", "--overwrite_output_dir")
    assert left.code == 0 and "Tokenizing" in left.output, "other windows are computed again"


def test_a_rank_that_dies_ends_the_job(training, tmp_path):
    """Breaks if the other rank waits in a collective until the time limit, or the launcher reports success."""
    words = [sys.executable, "-m", "accelerate.commands.launch", *TWO_ON_ONE_CPU, "scripts/train.py", *training]
    words += flags(output_dir=tmp_path / "run", num_train_epochs=100_000, save_steps=5)
    process = start(words)
    try:
        end = time.monotonic() + scaled(SECONDS)
        while not checkpoint.checkpoints(tmp_path / "run"):
            assert time.monotonic() < end and process.poll() is None, process.communicate(timeout=10)[0]
            time.sleep(0.2)
        workers = children_of(process.pid)
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
    finally:
        output = finish(process)
    assert process.returncode != 0, output
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers), "no worker is left behind"
    whole = [path for path in checkpoint.checkpoints(tmp_path / "run") if checkpoint.damage_of(path) is None]
    assert whole, "the run can go on from here"
    assert not (tmp_path / "run" / "all_results.json").exists()


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
