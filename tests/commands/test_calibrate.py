"""calibrate.py stores what predict.py uses, and nothing else; answers that are not sure enough are withheld, and say so."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from processes import Left, run
from toy import WINDOWS, Toy, flags

from qa_accel import config
from qa_accel.commands import calibrate, predict
from qa_accel.distributed import entry
from qa_accel.evaluation.squad_scores import exact_and_f1
from qa_accel.inference.answer_policy import CONFIG_KEY

CALIBRATION = {"temperature", "null_odds_weight", "null_odds_bias"}


def script(name: str, words: list[str]) -> None:
    module: Any = {"calibrate": calibrate, "predict": predict}[name]
    entry.main(lambda: module.run(config.parse(module.Config, words)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def started(name: str, cache: Path, processes: int = 1, **settings: Any) -> Left:
    """Rank 0's end. Answers of one token, so that the untrained model is right now and then."""
    usual = dict(cache_dir=cache, per_device_eval_batch_size=8, max_answer_length=1, **WINDOWS)
    return run(script, name, flags(**usual | settings), processes=processes)[0]


def done(name: str, cache: Path, **settings: Any) -> str:
    left = started(name, cache, **settings)
    assert left.code == 0, left.output
    return left.output


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def copy_of(toy: Toy, folder: Path, threshold: float | None = None) -> Path:
    shutil.copytree(toy.model, folder)
    if threshold is not None:
        settings = read(folder / "config.json") | {CONFIG_KEY: {"null_score_diff_threshold": threshold}}
        (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def calibrated(toy, cache, tmp_path_factory) -> Path:
    """The toy's model, calibrated on its 60 training questions; the figures are in the folder `figures` beside it."""
    folder = tmp_path_factory.mktemp("calibrated")
    model = copy_of(toy, folder / "model", threshold=0.125)
    done("calibrate", cache, model_name_or_path=model, validation_file=toy.train, output_dir=folder / "figures")
    return model


def test_only_the_calibration_is_written(toy, calibrated):
    """Breaks if the threshold is tuned too, another key of config.json changes, or a weight is saved again."""
    before, after = read(toy.model / "config.json"), read(calibrated / "config.json")
    policy = after.pop(CONFIG_KEY)
    assert after == before
    assert policy.keys() == CALIBRATION | {"null_score_diff_threshold"}
    assert policy["null_score_diff_threshold"] == 0.125 and policy["temperature"] > 0
    assert {path.name for path in calibrated.iterdir()} == {path.name for path in toy.model.iterdir()}
    for path in calibrated.iterdir():
        assert path.name == "config.json" or path.read_bytes() == (toy.model / path.name).read_bytes()


def test_the_figures_are_those_of_the_half_that_was_not_fitted(calibrated):
    """By the hash of the contexts 27 of the toy's 60 questions are in the first half. Breaks if both halves are reported."""
    figures = read(calibrated.parent / "figures" / "calibration.json")
    assert figures["fitted_on"] == figures["swapped"]["confidence_questions"] == 27
    assert figures["before"]["confidence_questions"] == figures["after"]["confidence_questions"] == 33
    assert figures["before"]["confidence_brier"] != figures["after"]["confidence_brier"]
    policy = read(calibrated / "config.json")[CONFIG_KEY]
    assert figures["calibration"] == {key: policy[key] for key in CALIBRATION} != figures["swapped_calibration"]
    assert figures["risk_coverage"][-1]["coverage"] == 1.0


def test_two_processes_store_the_same_numbers(toy, cache, calibrated, tmp_path):
    model = copy_of(toy, tmp_path / "model", threshold=0.125)
    done("calibrate", cache, model_name_or_path=model, validation_file=toy.train, processes=2)
    assert (model / "config.json").read_bytes() == (calibrated / "config.json").read_bytes()


def without_confidence(nbest: dict) -> dict:
    plain = {key: [dict(entry) for entry in entries] for key, entries in nbest.items()}
    for entry_ in (entry_ for entries in plain.values() for entry_ in entries):
        del entry_["confidence"]
    return plain


def test_a_calibrated_model_gives_the_same_answers_with_their_confidence(toy, cache, calibrated, tmp_path):
    """Breaks if an answer, an n-best text or null odds depend on the calibration, or the file belongs to other entries."""
    plain = copy_of(toy, tmp_path / "model", threshold=0.125)
    for name, model in (("plain", plain), ("new", calibrated)):
        done("predict", cache, model_name_or_path=model, test_file=toy.dev, output_dir=tmp_path / name)
    old, new = tmp_path / "plain", tmp_path / "new"
    assert not (old / "confidences.json").exists()
    for name in ("predictions.json", "null_odds.json"):
        assert (old / name).read_bytes() == (new / name).read_bytes()
    nbest, predictions = read(new / "nbest_predictions.json"), read(new / "predictions.json")
    assert without_confidence(nbest) == read(old / "nbest_predictions.json")
    confidences = read(new / "confidences.json")
    assert confidences.keys() == predictions.keys() and len(confidences) == 30
    for key, text in predictions.items():
        assert confidences[key] == next(one["confidence"] for one in nbest[key] if one["text"] == text)
    old_scores, new_scores = read(old / "all_results.json"), read(new / "all_results.json")
    assert {key: new_scores[key] for key in old_scores} == old_scores
    assert new_scores["confidence_questions"] == 30 and "answered" not in new_scores
    assert 0 <= new_scores["answerability_auroc"] <= 1


def test_what_is_not_sure_enough_is_withheld_and_said(toy, cache, calibrated, tmp_path):
    """With an infinite threshold, so that every answer is a span. Breaks if a withheld answer cannot be told from "no
    answer", or the accuracy is that of other questions."""
    words: dict[str, Any] = dict(
        model_name_or_path=calibrated, test_file=toy.dev, output_dir=tmp_path / "all", null_score_diff_threshold="inf"
    )
    done("predict", cache, **words)
    everything, confidences = read(tmp_path / "all" / "predictions.json"), read(tmp_path / "all" / "confidences.json")
    least = sorted(confidences.values())[20]  # 10 of 30 are at least as sure
    folder = tmp_path / "some"
    output = done("predict", cache, **words | dict(output_dir=folder, min_confidence=least))
    sure = {key for key, confidence in confidences.items() if confidence >= least}
    assert len(sure) == 10 and all(everything.values())
    assert read(folder / "predictions.json") == {key: text if key in sure else "" for key, text in everything.items()}
    assert read(folder / "confidences.json") == confidences
    for name in ("nbest_predictions.json", "null_odds.json"):
        assert (folder / name).read_bytes() == (tmp_path / "all" / name).read_bytes()
    gold = golds_of(toy.dev)
    figures = [exact_and_f1(everything[key], gold[key]) for key in sure]
    scores = read(folder / "all_results.json")
    assert (scores["answered"], scores["min_confidence"]) == (10, least)
    assert scores["answered_exact"] == pytest.approx(100 * sum(exact for exact, _ in figures) / 10)
    assert scores["answered_f1"] == pytest.approx(100 * sum(f1 for _, f1 in figures) / 10)
    assert "10 of 30 questions (33.3 %)" in output
    assert scores["exact"] == read(tmp_path / "all" / "all_results.json")["exact"], "of all answers, none withheld"


def golds_of(file: Path) -> dict[str, list[str]]:
    rows = [row for part in read(file)["data"][0]["paragraphs"] for row in part["qas"]]
    return {row["id"]: [answer["text"] for answer in row["answers"]] for row in rows}


def test_where_nothing_is_sure_enough_there_is_no_accuracy(toy, cache, calibrated, tmp_path):
    done("predict", cache, model_name_or_path=calibrated, test_file=toy.dev, output_dir=tmp_path, min_confidence=1.0)
    scores = read(tmp_path / "all_results.json")
    assert scores["answered"] == 0 and "answered_exact" not in scores
    assert set(read(tmp_path / "predictions.json").values()) == {""}


def test_former_confidences_do_not_stay_beside_the_answers_of_another_model(toy, cache, calibrated, tmp_path):
    for model in (calibrated, toy.model):
        done("predict", cache, model_name_or_path=model, test_file=toy.dev, output_dir=tmp_path)
    assert not (tmp_path / "confidences.json").exists() and (tmp_path / "predictions.json").exists()


def refusal(name: str, cache: Path, **settings: Any) -> str:
    left = started(name, cache, **settings)
    assert left.code == 2 and "Traceback" not in left.output, left.output
    return " ".join(left.output.split())


def test_a_least_confidence_needs_a_calibration(toy, cache, tmp_path):
    """Breaks if the flag is ignored, or the refusal comes after minutes of prediction."""
    words: dict[str, Any] = dict(model_name_or_path=toy.model, output_dir=tmp_path, min_confidence=0.5)
    message = refusal("predict", cache, test_file=tmp_path / "is_not_read.json", **words)
    assert "--min_confidence 0.5" in message and "scripts/calibrate.py" in message
    assert "--min_confidence must be at most 1" in refusal("predict", cache, **words | dict(min_confidence=1.5))


def test_a_calibration_on_answerable_questions_says_nothing_of_others(toy, cache, tmp_path):
    """The toy's answerable questions alone, as SQuAD v1.1. Breaks if "no answer" gets a confidence that was never fitted."""
    content = read(toy.train)
    for part in content["data"][0]["paragraphs"]:
        part["qas"] = [row for row in part["qas"] if row["answers"]] + [
            row | {"id": f"{row['id']}-again"} for row in part["qas"] if row["answers"]
        ]
    answerable = tmp_path / "answerable.json"
    answerable.write_text(json.dumps(content))
    model = copy_of(toy, tmp_path / "model")
    done("calibrate", cache, model_name_or_path=model, validation_file=answerable)
    assert read(model / "config.json")[CONFIG_KEY].keys() == {"null_score_diff_threshold", "temperature"}
    done("predict", cache, model_name_or_path=model, test_file=answerable, output_dir=tmp_path / "v1")
    assert all(0 < confidence < 1 for confidence in read(tmp_path / "v1" / "confidences.json").values())
    done("predict", cache, model_name_or_path=model, test_file=toy.dev, output_dir=tmp_path / "v2")
    assert not (tmp_path / "v2" / "confidences.json").exists()
    words: dict[str, Any] = dict(model_name_or_path=model, test_file=toy.dev, output_dir=tmp_path / "v2")
    message = refusal("predict", cache, **words, min_confidence=0.5)
    assert "was calibrated on questions that all have an answer" in message and "--version_2_with_negative" in message


def test_what_cannot_be_stored_is_refused_before_the_prediction(toy, cache, tmp_path):
    """A name of the hub, a folder whose manifest knows config.json's hash. Breaks if the work of minutes is lost."""
    message = refusal("calibrate", cache, model_name_or_path="somebody/model", validation_file=toy.train)
    assert "is not a local folder" in message and "--output_dir" in message
    model = copy_of(toy, tmp_path / "best")
    (model / "manifest.json").write_text("{}")
    message = refusal("calibrate", cache, model_name_or_path=model, validation_file=toy.train)
    assert "belongs to a run that has not ended" in message
    missing = tmp_path / "nowhere"
    assert "there is no such folder" in refusal(
        "calibrate", cache, model_name_or_path=missing, validation_file=toy.train
    )


def test_too_few_questions_leave_the_model_as_it_was(toy, cache, tmp_path):
    model = copy_of(toy, tmp_path / "model")
    before = (model / "config.json").read_bytes()
    message = refusal("calibrate", cache, model_name_or_path=model, validation_file=toy.train, max_eval_samples=12)
    assert "these questions cannot calibrate a model" in message and "at least 20 are needed" in message
    assert (model / "config.json").read_bytes() == before


def test_a_folder_with_an_adapter_is_calibrated_too(trainer, cache, tmp_path):
    """Breaks if the numbers go to the base model, which other adapters share, or are not read from the adapter's folder."""
    trainer.whole(tmp_path / "run", lora_r=2, max_train_steps=2)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    base = (trainer.toy.model / "config.json").read_bytes()
    words: dict[str, Any] = dict(model_name_or_path=tmp_path / "run")
    done("calibrate", cache, validation_file=trainer.toy.train, **words)
    assert read(tmp_path / "run" / "config.json")[CONFIG_KEY].keys() > CALIBRATION
    assert (trainer.toy.model / "config.json").read_bytes() == base
    done("predict", cache, test_file=trainer.toy.dev, output_dir=tmp_path / "answers", min_confidence=0.5, **words)
    assert len(read(tmp_path / "answers" / "confidences.json")) == 30
