"""decode.py gives predict.py's files, byte for byte, from saved logits, and says what is wrong where it cannot."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import Left, run
from toy import WINDOWS, flags

from qa_accel import config
from qa_accel.commands import decode, predict
from qa_accel.distributed import entry
from qa_accel.inference.answer_policy import CONFIG_KEY

ANSWERS = ("predictions.json", "nbest_predictions.json", "null_odds.json")
ALL = (*ANSWERS, "all_results.json")
CALIBRATION = {"temperature": 1.5, "null_odds_weight": 0.25, "null_odds_bias": -0.5}


def script(words: list[str]) -> None:
    entry.main(lambda: predict.run(config.parse(predict.PredictConfig, words)))


def predicted(folder: Path, processes: int = 1, **settings: Any) -> Left:
    usual = dict(cache_dir=folder.parent / "cache", per_device_eval_batch_size=8, output_dir=folder, **WINDOWS)
    left = run(script, flags(**usual | settings), processes=processes)[0]
    assert left.code == 0, left.output
    return left


def decoded(prediction: Path, folder: Path, **settings: Any) -> Path:
    words = [str(prediction), "--output_dir", str(folder), *flags(**settings)]
    decode.run(config.parse(decode.DecodeConfig, words))
    return folder


def contents(folder: Path, names: tuple[str, ...] = ALL) -> list[bytes]:
    return [(folder / name).read_bytes() for name in names]


@pytest.fixture(scope="module")
def model(toy, tmp_path_factory) -> Path:
    """The toy's, with a threshold of its own and a calibration."""
    folder = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(toy.model, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings[CONFIG_KEY] = {"null_score_diff_threshold": 0.125} | CALIBRATION
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def prediction(model, toy, tmp_path_factory) -> Path:
    """Of two processes, without answers longer than eight tokens."""
    questions = tmp_path_factory.mktemp("questions") / "dev.json"
    shutil.copy(toy.dev, questions)
    folder = tmp_path_factory.mktemp("runs") / "answers"
    settings = dict(model_name_or_path=model, test_file=questions, max_answer_length=8, save_logits=True)
    predicted(folder, processes=2, **settings)
    return folder


@pytest.fixture
def own(prediction, tmp_path) -> Path:
    """A copy of the prediction, its cache and its questions, to damage."""
    folder = tmp_path / "answers"
    shutil.copytree(prediction, folder)
    shutil.copytree(prediction.parent / "cache", tmp_path / "cache")
    record, written = (
        json.loads((folder / "logits.json").read_text()),
        yaml.safe_load((folder / "config.yaml").read_text()),
    )
    for name in ("logits", "windows"):
        record[name] = str(tmp_path / "cache" / Path(record[name]).name)
    [questions] = written["test_file"]
    written |= {"cache_dir": str(tmp_path / "cache"), "test_file": [shutil.copy(questions, tmp_path)]}
    (folder / "logits.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text(yaml.safe_dump(written))
    return folder


ALONE = """
import sys
sys.argv = ["decode.py", *sys.argv[1:]]
from qa_accel.cli import main
main("decode")
assert not {"torch", "accelerate"} & set(sys.modules), "imported"
"""


def test_the_settings_of_the_prediction_give_its_files_byte_for_byte_without_torch(prediction, tmp_path, repository):
    """Breaks if the file of logits loses a bit, spans are ordered by another rule than on the device, or normalisers are
    summed again in another order; and if torch is imported, which takes more time than all the rest."""
    words = [prediction, "--output_dir", tmp_path / "decoded"]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, words)], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = (*ALL, "confidences.json")
    assert contents(tmp_path / "decoded", names) == contents(prediction, names)
    assert {path.name for path in (tmp_path / "decoded").iterdir()} == {*names, "config.yaml", ".lock"}
    for entries in json.loads((prediction / "nbest_predictions.json").read_text()).values():
        assert {"score", "confidence"} <= entries[0].keys(), "the files hold what depends on the normalisers"


def test_other_settings_give_what_a_fresh_prediction_with_them_gives(prediction, toy, tmp_path):
    """Against a prediction that saves nothing. Breaks if a setting does not reach the spans or the threshold, if the files of
    a former prediction's logits stay beside the answers of another, or if config.yaml does not say what was decoded."""
    settings: dict[str, Any] = dict(n_best_size=3, max_answer_length=2, null_score_diff_threshold=-0.75)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copy(prediction / "logits.json", fresh)
    questions = yaml.safe_load((prediction / "config.yaml").read_text())["test_file"]
    predicted(fresh, model_name_or_path=toy.model, test_file=questions, **settings)
    assert not (fresh / "logits.json").exists(), "they are not those of these answers"
    folder = decoded(prediction, tmp_path / "decoded", **settings)
    assert contents(folder) == contents(fresh)
    assert contents(folder) != contents(prediction)
    assert not (folder / "confidences.json").exists(), "the calibration belongs to other settings"
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert written.items() >= settings.items() and written["output_dir"] == str(folder)


def test_logits_that_are_there_are_decoded_and_not_computed_again(prediction, model, tmp_path):
    """Breaks if a second pass is made, or if the answers from the cache are others than those of the pass that filled it."""
    settings = yaml.safe_load((prediction / "config.yaml").read_text())
    common = dict(model_name_or_path=model, test_file=settings["test_file"], cache_dir=settings["cache_dir"])
    left = predicted(tmp_path / "again", **common, max_answer_length=8, save_logits=True)
    assert "nothing is computed" in left.output
    names = (*ALL, "confidences.json")
    assert contents(tmp_path / "again", names) == contents(prediction, names)
    here, there = (json.loads((folder / "logits.json").read_text()) for folder in (tmp_path / "again", prediction))
    assert here == there


def test_a_threshold_alone_keeps_the_confidences_and_a_least_confidence_withholds_answers(prediction, tmp_path):
    """Breaks if the calibration is dropped although it holds, or the answers that are withheld are not those of predict.py."""
    folder = decoded(prediction, tmp_path / "all", null_score_diff_threshold="inf")
    confidences = json.loads((folder / "confidences.json").read_text())
    least = sorted(confidences.values())[15]
    folder = decoded(prediction, tmp_path / "decoded", null_score_diff_threshold="inf", min_confidence=least)
    assert json.loads((folder / "confidences.json").read_text()) == confidences
    predictions = json.loads((folder / "predictions.json").read_text())
    nbest = json.loads((folder / "nbest_predictions.json").read_text())
    below = {key for key, confidence in confidences.items() if confidence < least}
    assert 0 < len(below) < 30
    for key, text in predictions.items():
        best = next(entry["text"] for entry in nbest[key] if entry["text"])
        assert text == ("" if key in below else best)
    assert json.loads((folder / "all_results.json").read_text())["answered"] == 30 - len(below)


def test_settings_that_the_calibration_does_not_hold_for_have_no_confidences_and_say_so(prediction, tmp_path, capsys):
    decoded(prediction, tmp_path / "decoded", n_best_size=5)
    assert (
        "no confidences: the calibration belongs to --n_best_size 20 --max_answer_length 8" in capsys.readouterr().out
    )
    with pytest.raises(
        ValueError, match=r"--min_confidence 0\.5: these answers have no confidence: the calibration belongs"
    ):
        decoded(prediction, tmp_path / "other", n_best_size=5, min_confidence=0.5)


def refusal(prediction: Path, folder: Path) -> str:
    with pytest.raises(ValueError) as error:
        decoded(prediction, folder)
    message = str(error.value)
    assert "\n" not in message and len(message) < 1500
    assert not list(folder.glob("*.json")), "nothing was written"
    return message


def test_what_is_missing_damaged_or_changed_is_named_with_the_command_that_computes_it_again(own, tmp_path):
    """Breaks if answers are decoded from half a file, or from the logits of other questions."""
    again = f"compute them again: accelerate launch scripts/predict.py --config {own}/config.yaml"
    record = json.loads((own / "logits.json").read_text())
    for name in ("windows", "logits"):
        path = Path(record[name])
        content = path.read_bytes()
        for damaged, reason in (
            (content[:-1], "it is cut off"),
            (b"x" + content[1:], "its hash differs"),
            (b"", "it is cut off"),
        ):
            path.write_bytes(damaged)
            message = refusal(own, tmp_path / "decoded")
            assert str(path) in message and reason in message and again in message
        path.unlink()
        assert f"{path} cannot be used (there is no such file); {again}" in refusal(own, tmp_path / "decoded")
        path.write_bytes(content)
    decoded(own, tmp_path / "whole")
    questions = tmp_path / "dev.json"
    text = questions.read_text()
    questions.write_text(text.replace("Which animal", "What animal"))
    assert f"the questions have changed since their logits were saved; {again}" in refusal(own, tmp_path / "decoded")
    questions.unlink()
    assert "the questions of its logits cannot be read" in refusal(own, tmp_path / "decoded")


def test_the_prediction_s_own_folder_and_folders_without_logits_are_refused(own, tmp_path):
    with pytest.raises(ValueError, match="is the prediction's own folder, whose answers would be replaced"):
        decoded(own, own)
    (own / "config.yaml").rename(own / "settings.yaml")
    assert "holds no config.yaml" in refusal(own, tmp_path / "decoded")
    (own / "settings.yaml").rename(own / "config.yaml")
    (own / "logits.json").unlink()
    assert (
        f"its logits were not saved; run predict.py with --save_logits: accelerate launch scripts/predict.py --config {own}"
        in (refusal(own, tmp_path / "decoded"))
    )
    assert "is not a folder" in refusal(tmp_path / "nowhere", tmp_path / "decoded")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("[1, 2]", "expected the object that predict.py --save_logits writes"),
        ("{", "is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ({"format": 2}, "expected the object"),
        ({"logits": 3}, "logits cannot be '3' (int)"),
        ({"logits": "../nowhere/logits-0.arrow"}, "there is no such file"),
        ({"logits": "/etc/passwd"}, "/etc/passwd cannot be used ("),
        ({"logits": "x" * 100_000}, "there is no such file"),
        ({"logits": "\ud800"}, "there is no such file"),
        ({"logits": "a\0b"}, "there is no such file"),
        ({"windows": None}, "windows must be there"),
        ({"windows": "the logits"}, "its name does not begin with windows-"),
        ({"questions": "0"}, "the questions have changed"),
        ({"split": "training"}, "split cannot be 'training'"),
        ({"split": "train"}, "split cannot be 'train'"),
        ({"n_best_size": 10**9}, "--n_best_size must be at most 10000"),
        ({"n_best_size": True}, "n_best_size cannot be"),
        ({"max_answer_length": 10**30}, "max_answer_length cannot be"),
        ({"null_score_diff_threshold": "much"}, "null_score_diff_threshold cannot be"),
        ({"null_score_diff_threshold": 10**400}, "null_score_diff_threshold cannot be"),
        ({"null_score_diff_threshold": math.nan}, "--null_score_diff_threshold must be"),
        ({"null_odds_weight": math.inf}, "--null_odds_weight must be"),
        ({"temperature": 0}, "--temperature must be"),
        ({"temperature": None}, "belong to a temperature, which is missing"),
        ({"null_odds_bias": None}, "belong together; one of them is missing"),
        ({"version_2_with_negative": 1}, "version_2_with_negative cannot be"),
    ],
)
def test_a_record_that_predict_did_not_write_so_is_refused_in_one_line(own, tmp_path, changes, expected):
    path = own / "logits.json"
    record = json.loads(path.read_text())
    if isinstance(changes, dict):
        changes = {name: record["logits"] if value == "the logits" else value for name, value in changes.items()}
        path.write_text(json.dumps(record | changes))
    else:
        path.write_text(changes)
    assert expected in refusal(own, tmp_path / "decoded")


def test_a_corpus_in_pieces_keeps_no_logits(toy, tmp_path):
    words = flags(
        model_name_or_path=toy.model, test_file=toy.dev, output_dir=tmp_path, shard_output=True, save_logits=True
    )
    with pytest.raises(
        ValueError, match="--save_logits keeps the logits of one file of questions, --shard_output answers a corpus"
    ):
        predict.run(config.parse(predict.PredictConfig, words))
