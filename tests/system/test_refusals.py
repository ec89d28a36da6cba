"""What cannot work ends before any work is done, in one message that says what to do."""

import json

import pytest
from launches import only_message, refused, training_flags
from toy import WINDOWS, flags

from qa_accel.distributed import run_folder


@pytest.fixture(scope="module")
def training(toy, tmp_path_factory) -> list[str]:
    return training_flags(toy, tmp_path_factory.mktemp("cache"))


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
def test_an_output_folder_that_cannot_be_written_is_detected_before_any_work(name, toy, training, tmp_path):
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
    assert [path.name for path in (tmp_path / "run").iterdir()] == [run_folder.LOCK]


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
    assert [path.name for path in (tmp_path / "answers").iterdir()] == [run_folder.LOCK]
