"""The scripts as users start them: by `accelerate launch` in processes of their own, or, where a start is to be refused,
their files run in a forked process."""

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import Left, run, script
from toy import WINDOWS, flags
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from qa_accel import checkpoint, lock

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = REPOSITORY / "scripts"
TWO_ON_ONE_CPU = ["--config_file", "accelerate_configs/cpu_ddp.yaml", "--mixed_precision", "no"]
SECONDS = 240
"""Within which a launch must be over on any machine."""


def start(words: list, **options) -> subprocess.Popen:
    """In a process group of its own, so that all of it can be ended."""
    return subprocess.Popen(
        list(map(str, words)),
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def finish(process: subprocess.Popen) -> str:
    """What it wrote. Whatever is left of its group after that is killed."""
    try:
        return process.communicate(timeout=SECONDS)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def launched(name: str, *words, processes: int = 2) -> str:
    """`accelerate launch` of a script that must end well: what it wrote."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", *TWO_ON_ONE_CPU, "--num_processes", processes]
    process = start([*launch, f"scripts/{name}", *words])
    output = finish(process)
    assert process.returncode == 0, output
    return output


def refused(name: str, *words, processes: int = 1, **environment: str) -> list[Left]:
    """A script's file in forked processes, where it is to end with a message."""
    return run(script, SCRIPTS / name, list(map(str, words)), processes=processes, environment=environment)


def only_message(left: Left) -> str:
    """The one message of a run that a user can mend: exit code 2, no traceback."""
    assert left.code == 2, left.output
    assert "Traceback" not in left.output
    [message] = re.findall(r"^error: .*", left.output, re.MULTILINE | re.DOTALL)
    return message


@pytest.fixture(scope="module")
def training(toy, tmp_path_factory) -> list[str]:
    """Flags of a training run on the toy, all but --output_dir."""
    settings = dict(model_name_or_path=toy.model, train_file=toy.train, validation_file=toy.dev)
    settings |= dict(per_device_train_batch_size=4, gradient_accumulation_steps=2, learning_rate=1e-2, eval_steps=3)
    return flags(**settings, cache_dir=tmp_path_factory.mktemp("cache"), **WINDOWS)


@pytest.fixture(scope="module")
def trained(toy, training, tmp_path_factory) -> Path:
    """A run on two processes that accelerate launched."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    launched("train.py", *training, "--output_dir", folder)
    return folder


OF_A_MODEL = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
OF_PREDICTION = {"predictions.json", "nbest_predictions.json", "null_odds.json"}
OF_A_RUN = {"README.md", "all_results.json", "config.yaml", "data_report.json", "metrics.jsonl"}


def test_a_launched_run_leaves_exactly_these_files(trained):
    """66 windows in steps of 2 processes x 4 windows x 2 batches: 5 steps an epoch. Breaks if something half written or of
    no use stays, or a name that users rely on changes."""
    names = {path.name for path in trained.iterdir()}
    assert names == OF_A_MODEL | OF_PREDICTION | OF_A_RUN | {"checkpoint-5", "checkpoint-10", lock.LOCK}
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
    """Breaks if a stage is counted twice or not at all, or the clock starts behind the imports, which take seconds."""
    results = json.loads((trained / "all_results.json").read_text())
    stages = results["seconds_of"]
    assert list(stages) == ["imports", "start", "data", "model", "first step", "steps", "evaluation", "saving", "end"]
    assert sum(stages.values()) == pytest.approx(results["seconds"], abs=0.5) and stages["imports"] > 1


def test_the_model_loads_anywhere_and_carries_its_threshold(trained):
    model, info = AutoModelForQuestionAnswering.from_pretrained(trained, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    results = json.loads((trained / "all_results.json").read_text())
    assert model.config.null_score_diff_threshold == pytest.approx(results["best_f1_thresh"])
    assert AutoTokenizer.from_pretrained(trained).is_fast


def test_score_py_finds_the_scores_that_training_wrote(trained, toy):
    words = ["--validation_file", toy.dev, "--predictions_file", trained / "predictions.json"]
    scored = json.loads(finish(start([sys.executable, SCRIPTS / "score.py", *words])))
    results = json.loads((trained / "all_results.json").read_text())
    for key in ("exact", "f1", "total", "HasAns_f1", "NoAns_f1"):
        assert scored[key] == pytest.approx(results[key], abs=1e-9), key
    assert scored["total"] == 30


def test_a_finished_run_is_refused_unless_told_to_overwrite_it(trained, training):
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
    assert {path.name for path in three.iterdir()} == OF_PREDICTION | {"all_results.json", "config.yaml"}
    threshold = json.loads((trained / "config.json").read_text())["null_score_diff_threshold"]
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
    assert left.code == 0 and "Tokenizing" in left.output, "other windows are made anew"


def test_a_rank_that_dies_ends_the_job(training, tmp_path):
    """Breaks if the other rank waits in a collective until the time limit, or the launcher reports success."""
    words = [sys.executable, "-m", "accelerate.commands.launch", *TWO_ON_ONE_CPU, "scripts/train.py", *training]
    words += flags(output_dir=tmp_path / "run", num_train_epochs=100_000, save_steps=5)
    process = start(words)
    try:
        end = time.monotonic() + SECONDS
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


def test_a_world_size_that_nobody_launched_is_refused(training, tmp_path):
    """Breaks if a single process waits for another one that does not exist, or trains alone where two were meant."""
    words = [*training, "--output_dir", tmp_path / "run"]
    left_over = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "RANK": "0"}
    for environment in ({"WORLD_SIZE": "2"}, left_over):
        message = only_message(refused("train.py", *words, **environment)[0])
        assert "WORLD_SIZE=2" in message and "accelerate launch" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["train.py", "predict.py", "prepare.py"])
def test_an_unknown_flag_ends_with_2_and_help_with_0(name):
    [left] = refused(name, "--model_name_or_path", "m", "--output_dir", "o", "--max_seq_lenght", "64")
    assert left.code == 2
    assert "--max_seq_lenght" in left.output and "--max_seq_length" in left.output
    assert "Traceback" not in left.output
    [left] = refused(name, "--help")
    assert left.code == 0 and "--max_seq_length" in left.output and "Traceback" not in left.output


@pytest.mark.parametrize("name", ["train.py", "predict.py"])
def test_an_output_folder_that_cannot_be_written_is_found_out_before_any_work(name, toy, training, tmp_path):
    (tmp_path / "file").write_text("in the way")
    words = training if name == "train.py" else flags(model_name_or_path=toy.model, test_file=toy.dev, **WINDOWS)
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        [left] = refused(name, *words, "--output_dir", folder)
        assert f"--output_dir {folder} cannot be written" in only_message(left)
        assert "Tokenizing" not in left.output and "windows" not in left.output
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("processes", [1, 2])
def test_data_without_ids_is_refused_with_file_row_and_remedy(training, tmp_path, processes):
    file = tmp_path / "questions.json"
    row = {"question": "Who?", "context": "Ana.", "answers": {"text": ["Ana"], "answer_start": [0]}}
    file.write_text(json.dumps([row]))
    words = [*training, "--train_file", file, "--output_dir", tmp_path / "run"]
    main = refused("train.py", *words, processes=processes)[0]
    message = only_message(main)
    assert str(file) in message and "row 1" in message and "'id'" in message and "--id_column" in message
    assert [path.name for path in (tmp_path / "run").iterdir()] == [lock.LOCK]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--doc_stride", "60"], "doc_stride=60 must be less than the context's room"),
        (["--max_seq_length", "200"], "--max_seq_length 200 is more than the 128 positions"),
        (["--train_file", "nowhere.json"], "nowhere.json"),
        (["--model_name_or_path", "nowhere/at_all"], "'nowhere/at_all' cannot be loaded"),
        (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_work_end_in_one_message(training, tmp_path, words, said):
    left = refused("train.py", *training, "--output_dir", tmp_path / "run", *words)[0]
    assert left.code == 2 and said in left.output and "Traceback" not in left.output


def test_a_head_that_was_never_trained_does_not_predict(toy, tmp_path):
    words = flags(model_name_or_path=toy.untrained, test_file=toy.dev, output_dir=tmp_path / "answers", **WINDOWS)
    message = only_message(refused("predict.py", *words, "--cache_dir", tmp_path / "cache")[0])
    assert "never trained" in message and "scripts/train.py" in message
    assert not list((tmp_path / "answers").iterdir())


# ---------------------------------------------------------------------------------------------------- a disk that fills


def on_a_small_disk(
    folder: Path, kilobytes: int, path: Path, words: list[str]
) -> tuple[int, str, dict[str, bytes]] | str:
    """A script whose output folder has so much room: its exit code, what it wrote, and the folder's files afterwards.

    Only this process and its children see the small disk, and it is gone with them. A string: why there can be none.
    """
    new_mount_namespace = 0x00020000
    if ctypes.CDLL(None).unshare(new_mount_namespace):
        return "this user may not mount a small file system"
    folder.mkdir()
    for command in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]):
        done = subprocess.run(["mount", *command], capture_output=True, text=True)
        if done.returncode:
            return f"no small file system could be mounted: {done.stderr.strip()}"
    log = folder.with_suffix(".log")
    child = os.fork()
    if not child:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        script(path, words)
        os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return code, log.read_text(), left


def small_disk(folder: Path, kilobytes: int, name: str, words: list[str]) -> tuple[int, str, dict[str, bytes]]:
    result = run(on_a_small_disk, folder, kilobytes, SCRIPTS / name, words)[0].value
    if isinstance(result, str):
        pytest.skip(result)
    return result


@pytest.mark.parametrize("kilobytes", [100, 150, 300, 500, 900])
def test_a_disk_that_fills_up_in_training_ends_in_one_message_and_nothing_half_written(training, tmp_path, kilobytes):
    """A model is 115 kB, a checkpoint 380 kB: the disk fills up in the weights, the predictions, the optimizer's state, a
    second checkpoint. Breaks if anything under a final name is not whole, or leftovers fill the disk for good."""
    folder = tmp_path / "disk"
    words = [*training, *flags(output_dir=folder / "run", save_steps=4)]
    code, output, left = small_disk(folder, kilobytes, "train.py", words)
    message = only_message(Left(code, output, None))
    assert str(folder / "run") in message and "cannot be written" in message
    assert "full" in message or "No space" in message
    assert "run/all_results.json" not in left and not [name for name in left if "partial" in name]
    copy = tmp_path / "copy"
    for name, content in left.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
        if name.endswith(".json"):
            json.loads(content)
    for made in {path.parent for path in copy.rglob("manifest.json")} | set(checkpoint.checkpoints(copy / "run")):
        assert checkpoint.damage_of(made) is None


@pytest.mark.parametrize("kilobytes", [4, 40])
def test_a_disk_that_fills_up_in_prediction_leaves_no_predictions(toy, training, tmp_path, kilobytes):
    cache = training[training.index("--cache_dir") + 1]
    words = flags(model_name_or_path=toy.model, test_file=toy.dev, cache_dir=cache, **WINDOWS)
    words += ["--output_dir", str(tmp_path / "disk")]
    code, output, left = small_disk(tmp_path / "disk", kilobytes, "predict.py", words)
    message = only_message(Left(code, output, None))
    assert str(tmp_path / "disk") in message and "No space left" in message
    assert left == {}
