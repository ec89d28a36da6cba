"""A disk that fills up ends a script in one message, and leaves nothing half written under a final name."""

import ctypes
import json
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import corpus_flags, toy_rows, write_corpus
from launches import SCRIPTS, only_message, training_flags
from processes import Left, run, script
from toy import WINDOWS, flags
from transformers import AutoTokenizer

from qa_accel.data import splits
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.distributed import run_folder
from qa_accel.training import checkpoint


@pytest.fixture(scope="module")
def training(toy, tmp_path_factory) -> list[str]:
    return training_flags(toy, tmp_path_factory.mktemp("cache"))


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


def small_disk(folder: Path, kilobytes: int, name: str | Path, words: list[str]) -> tuple[int, str, dict[str, bytes]]:
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


@pytest.mark.parametrize("kilobytes", [4, 44])
def test_a_disk_that_fills_up_in_prediction_leaves_no_predictions(toy, training, tmp_path, kilobytes):
    cache = training[training.index("--cache_dir") + 1]
    words = flags(model_name_or_path=toy.model, test_file=toy.dev, cache_dir=cache, **WINDOWS)
    words += ["--output_dir", str(tmp_path / "disk")]
    code, output, left = small_disk(tmp_path / "disk", kilobytes, "predict.py", words)
    message = only_message(Left(code, output, None))
    assert str(tmp_path / "disk") in message and "No space left" in message
    assert left.keys() <= {run_folder.LOCK}


WITH_A_CACHE = """
import runpy, shutil
shutil.copytree({cache!r}, {disk!r}, dirs_exist_ok=True)
runpy.run_path({predict!r}, run_name="__main__")
"""


@pytest.mark.parametrize("kilobytes", [40, 48])
def test_a_cache_without_room_for_the_logits_ends_in_one_message_and_holds_no_part_of_them(toy, tmp_path, kilobytes):
    """Questions, windows and their audit take 36 kB, the logits 13. Breaks if the file is filled through a map that has no
    room: the kernel would kill the process; or if part of it keeps its name or its room."""
    cache, disk = tmp_path / "cache", tmp_path / "disk"
    data = DataConfig(test_file=(str(toy.dev),), cache_dir=str(cache))
    tokenizer = AutoTokenizer.from_pretrained(toy.model)
    splits.prepare_split(data, WindowConfig(**WINDOWS), tokenizer, "test", max_answer_length=30)
    script_file = tmp_path / "predict_with_a_cache.py"
    places = dict(cache=str(cache), disk=str(disk), predict=str(SCRIPTS / "predict.py"))
    script_file.write_text(WITH_A_CACHE.format(**places))
    words = flags(model_name_or_path=toy.model, test_file=toy.dev, cache_dir=disk, **WINDOWS)
    words += ["--output_dir", str(tmp_path / "answers"), "--save_logits"]
    code, output, left = small_disk(disk, kilobytes, script_file, words)
    message = only_message(Left(code, output, None))
    assert "disk/logits-" in message and "cannot be written" in message and "--cache_dir" in message
    assert sorted(name.partition("-")[0] for name in left) == ["audit", "questions", "windows"]
    assert not list((tmp_path / "answers").glob("*.json"))


@pytest.mark.parametrize("kilobytes", [8, 40])
def test_a_disk_that_fills_up_under_a_corpus_s_pieces_leaves_whole_ones(toy, tmp_path, kilobytes):
    """A piece is 5 kB. Breaks if half a piece keeps its name, or the error of a worker is a traceback."""
    corpus = write_corpus(tmp_path / "corpus", toy_rows(2))
    words = corpus_flags(toy, corpus, tmp_path / "disk")
    code, output, left = small_disk(tmp_path / "disk", kilobytes, "predict.py", words)
    message = only_message(Left(code, output, None))
    assert str(tmp_path / "disk") in message and "cannot be written" in message
    pieces = [content for name, content in left.items() if name.endswith(".parquet")]
    assert (len(pieces) > 1) == (kilobytes == 40) and not [name for name in left if "partial" in name]
    for content in pieces:
        pq.read_table(pa.BufferReader(content))


@pytest.mark.parametrize("kilobytes", [4, 44, 80])
def test_a_cache_that_fills_up_ends_in_one_message_and_leaves_whole_files(toy, tmp_path, kilobytes):
    """The questions do not fit, or datasets' writer fails when it is closed, or the windows do not fit. Breaks if the
    error of one of these libraries ends in a traceback, or if it does not say that another folder can be named."""
    words = flags(model_name_or_path=toy.model, train_file=toy.train, cache_dir=tmp_path / "disk", **WINDOWS)
    code, output, left = small_disk(tmp_path / "disk", kilobytes, "prepare.py", [*words, *flags(output_dir=tmp_path)])
    message = only_message(Left(code, output, None))
    assert str(tmp_path / "disk") in message and "cannot be written" in message and "--cache_dir" in message
    assert all(name.startswith("questions-") and name.endswith(".arrow") for name in left)
