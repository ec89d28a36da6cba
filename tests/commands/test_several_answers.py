"""--answers all through the commands: answers.json, its scores, the least score that is tuned and stored, Reader beside the files."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import Left, run
from toy import NAMES, WINDOWS, Toy, context_about, flags

from qa_accel import config
from qa_accel.commands import calibrate, decode, ensemble, predict, report, score, train
from qa_accel.data.settings import WindowConfig
from qa_accel.distributed import entry
from qa_accel.inference.answer_policy import CONFIG_KEY
from qa_accel.inference.reader import Reader
from qa_accel.inference.settings import SpanConfig

ANSWERS = ("predictions.json", "nbest_predictions.json", "null_odds.json")
ALL = (*ANSWERS, "answers.json", "all_results.json")
NEW_SCORES = {
    *(f"multi_{kind}_{figure}" for kind in ("exact", "partial") for figure in ("precision", "recall", "f1")),
    *("aupr", "precision_at_80_recall", "precision_at_90_recall", "min_answer_score", "best_multi_exact_f1"),
    "best_multi_exact_f1_score",
}


def script(name: str, words: list[str]) -> None:
    module: Any = {"calibrate": calibrate, "predict": predict, "train": train}[name]
    entry.main(lambda: module.run(config.parse(module.Config, words)))


def started(name: str, processes: int = 1, **settings: Any) -> Left:
    usual = dict(per_device_eval_batch_size=8, max_answer_length=1, **WINDOWS)
    return run(script, name, flags(**usual | settings), processes=processes)[0]


def done(name: str, processes: int = 1, **settings: Any) -> str:
    left = started(name, processes, **settings)
    assert left.code == 0, left.output
    return left.output


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def contents(folder: Path, names: tuple[str, ...] = ALL) -> list[bytes]:
    return [(folder / name).read_bytes() for name in names]


def list_questions(path: Path) -> Path:
    """For each of the toy's people, two questions with the words of the first sentence as answers, and one without: the untrained
    model is right now and then."""
    rows = []
    for name in NAMES:
        context = context_about(name)
        golds = context[: context.index(".")].split()
        places = itertools.accumulate([0, *(len(word) + 1 for word in golds[:-1])])
        answers = {"text": golds, "answer_start": list(places)}
        none = {"text": [], "answer_start": []}
        for verb, given in (("is", answers), ("was", answers), ("drinks", none)):
            rows.append({"id": f"{name}-{verb}", "question": f"{name} {verb}?", "context": context, "answers": given})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def place(toy: Toy, tmp_path_factory) -> Path:
    """Questions, and a model with a least score of its own."""
    folder = tmp_path_factory.mktemp("several")
    list_questions(folder / "dev.jsonl")
    shutil.copytree(toy.model, folder / "model")
    settings = read(toy.model / "config.json") | {
        CONFIG_KEY: {"null_score_diff_threshold": 0.5, "min_answer_score": 0.005}
    }
    (folder / "model" / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def common(place) -> dict[str, Any]:
    return dict(model_name_or_path=place / "model", test_file=place / "dev.jsonl", cache_dir=place / "cache")


@pytest.fixture(scope="module")
def prediction(place, common) -> Path:
    """Of one process, with saved logits."""
    done("predict", **common, output_dir=place / "all", answers="all", save_logits=True)
    return place / "all"


def test_answers_json_lists_spans_of_the_context_apart_and_above_the_models_least_score(prediction):
    """Breaks if the stored least score does not decide, spans overlap, or a place is not that of its text."""
    listed = read(prediction / "answers.json")
    assert list(listed) == list(read(prediction / "predictions.json"))
    assert {len(entries) for entries in listed.values()} > {1, 2}, "the toy lists more than one answer here and there"
    for key, entries in listed.items():
        context = context_about(key.split("-")[0])
        scores = [each["score"] for each in entries]
        assert scores == sorted(scores, reverse=True) and all(0.005 <= value <= 1 for value in scores)
        for each in entries:
            assert each.keys() == {"text", "start", "end", "score"}
            assert context[each["start"] : each["end"]] == each["text"]
        places = sorted((each["start"], each["end"]) for each in entries)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))


def test_two_processes_and_the_saved_logits_give_the_same_files(place, common, prediction):
    """Byte for byte. Breaks if the spans that are apart are lost on the way of rows between ranks, or are searched by another rule in
    arrays."""
    done("predict", processes=2, **common, output_dir=place / "two", answers="all")
    assert contents(place / "two") == contents(prediction)
    decode.run(config.parse(decode.DecodeConfig, [str(prediction), "--output_dir", str(place / "decoded")]))
    assert contents(place / "decoded") == contents(prediction)


def test_without_it_nothing_is_new_and_with_it_the_other_files_stay(place, common, prediction):
    """Breaks if several answers change the one answer, or leave a trace where they are not asked for: a file, a score, a former
    prediction's answers.json."""
    shutil.copytree(prediction, place / "any")
    done("predict", **common, output_dir=place / "any")
    assert not (place / "any" / "answers.json").exists()
    assert contents(place / "any", ANSWERS) == contents(prediction, ANSWERS)
    one, several = read(place / "any" / "all_results.json"), read(prediction / "all_results.json")
    assert several.keys() - one.keys() == NEW_SCORES and several.items() >= one.items()
    words = [str(prediction), "--output_dir", str(place / "one"), "--answers", "any"]
    decode.run(config.parse(decode.DecodeConfig, words))
    assert not (place / "one" / "answers.json").exists()
    assert contents(place / "one", (*ANSWERS, "all_results.json")) == contents(
        place / "any", (*ANSWERS, "all_results.json")
    )


def test_the_flag_overrides_the_model_and_score_py_finds_the_same_figures(place, prediction, capsys):
    """At 0 the file holds all candidates, so that it has the figures of every confidence too. Breaks if the figures of a prediction
    are not those of its file, or if AUPR depends on the least score."""
    words = [str(prediction), "--output_dir", str(place / "zero"), "--min_answer_score", "0"]
    decode.run(config.parse(decode.DecodeConfig, words))
    stored, at_zero = read(prediction / "all_results.json"), read(place / "zero" / "all_results.json")
    assert at_zero["min_answer_score"] == 0 and stored["min_answer_score"] == 0.005
    assert at_zero["aupr"] == stored["aupr"] > 0 and at_zero["multi_exact_f1"] != stored["multi_exact_f1"]
    for folder, results in ((prediction, stored), (place / "zero", at_zero)):
        found = score.scores(
            score.ScoreConfig((str(place / "dev.jsonl"),), str(folder / "answers.json"), answers="all")
        )
        names = [name for name in found if name.startswith("multi_") or (folder.name == "zero" and name != "total")]
        assert len(names) == (9 if folder.name == "zero" else 6)
        assert {name: found[name] for name in names} == {name: results[name] for name in names}
    best = stored["best_multi_exact_f1_score"]
    words = [str(prediction), "--output_dir", str(place / "best"), "--min_answer_score", repr(best)]
    decode.run(config.parse(decode.DecodeConfig, words))
    at_best = read(place / "best" / "all_results.json")
    assert (
        at_best["multi_exact_f1"] == pytest.approx(stored["best_multi_exact_f1"])
        and at_best["multi_exact_f1"] >= stored["multi_exact_f1"]
    )


def test_a_reader_lists_what_the_file_lists(place, prediction):
    """Breaks if the live reader takes another least score, another window or another rule than predict.py."""
    reader = Reader(
        place / "model", windows=WindowConfig(**WINDOWS), spans=SpanConfig(max_answer_length=1), batch_size=8
    )
    rows = [json.loads(line) for line in (place / "dev.jsonl").read_text().splitlines()]
    found = reader.answer_all(rows, answers="all")
    listed = read(prediction / "answers.json")
    assert {row["id"]: answer["answers"] for row, answer in zip(rows, found)} == listed
    assert {row["id"]: answer["text"] for row, answer in zip(rows, found)} == read(prediction / "predictions.json")
    one = reader.answer(rows[0]["question"], rows[0]["context"])
    assert "answers" not in one and one.items() <= found[0].items()
    with pytest.raises(ValueError, match="expected any or all"):
        reader.answer("a?", "b", answers="several")  # type: ignore[arg-type]
    given = Reader(place / "model", windows=WindowConfig(**WINDOWS), spans=SpanConfig(20, 1, min_answer_score=1.0))
    assert given.answer(**{key: rows[0][key] for key in ("question", "context")}, answers="all")["answers"] == []


def test_calibrate_tunes_the_least_score_and_keeps_it_afterwards(place, common, prediction):
    """The stored number is the one that the scores name. Breaks if it is tuned on other answers than predict.py's, if the no-answer
    threshold changes, or if a later calibration for one answer loses it."""
    model = shutil.copytree(place / "model", place / "tuned")
    settings = dict(validation_file=common["test_file"], cache_dir=common["cache_dir"], model_name_or_path=model)
    output = done("calibrate", **settings, answers="all", output_dir=place / "figures")
    assert "several answers, exact F1" in output
    policy = read(model / "config.json")[CONFIG_KEY]
    stored = read(prediction / "all_results.json")
    assert (
        policy["min_answer_score"] == stored["best_multi_exact_f1_score"] and policy["null_score_diff_threshold"] == 0.5
    )
    assert read(place / "figures" / "calibration.json")["several_answers"].items() <= stored.items()
    done("calibrate", **settings)
    assert read(model / "config.json")[CONFIG_KEY]["min_answer_score"] == policy["min_answer_score"]
    # too few questions for a calibration are enough for a least score, as in a training run
    output = done("calibrate", **settings, answers="all", max_eval_samples=3)
    assert "confidences are not calibrated: " in output
    assert 0 <= read(model / "config.json")[CONFIG_KEY]["min_answer_score"] <= 1


def test_a_training_run_tunes_stores_and_scores_them(toy, place):
    """Four steps, the best model chosen by the tuned exact F1. Breaks if evaluations in training list one answer, the tuned least score
    is not stored with the model, or the metric is taken from data with one answer per question."""
    settings = dict(train_file=place / "dev.jsonl", validation_file=place / "dev.jsonl", cache_dir=place / "cache")
    settings |= dict(model_name_or_path=toy.model, output_dir=place / "run", per_device_train_batch_size=8)
    settings |= dict(max_train_steps=4, eval_steps=2, save_steps=100, metric_for_best_model="best_multi_exact_f1")
    left = started("train", **settings)
    assert left.code == 2 and "add --answers all" in left.output
    done("train", **settings, answers="all")
    results, lines = (
        read(place / "run" / "all_results.json"),
        (place / "run" / "metrics.jsonl").read_text().splitlines(),
    )
    of_evaluations = [json.loads(line) for line in lines if "eval_best_multi_exact_f1" in line]
    best = max(line["eval_best_multi_exact_f1"] for line in of_evaluations)
    assert len(of_evaluations) == 2 and results["best_multi_exact_f1"] == best
    assert results.keys() >= NEW_SCORES and results["min_answer_score"] == 0.1, "untuned while it trains"
    policy = read(place / "run" / "config.json")[CONFIG_KEY]
    assert policy["min_answer_score"] == results["best_multi_exact_f1_score"]
    assert read(place / "run" / "answers.json").keys() == read(place / "run" / "predictions.json").keys()


def test_a_report_has_their_scores(place, prediction):
    """Breaks if the report of a prediction with answers.json says nothing of it."""
    pytest.importorskip("plotly")
    folder = shutil.copytree(prediction, place / "reported")
    report.run(config.parse(report.Config, [str(folder)]))
    page = (folder / "report.html").read_text(encoding="utf-8")
    results = read(folder / "all_results.json")
    for name in ("multi_exact_f1", "multi_partial_recall", "aupr"):
        assert f"{results[name]:.2f}" in page
    assert "Several answers" in page


def test_what_is_not_supported_says_so(place, common, prediction, capsys):
    """Breaks if pieces of a corpus, an ensemble or a setting without effect pass in silence."""
    left = started("predict", **common, output_dir=place / "corpus", answers="all", shard_output=True)
    assert left.code == 2 and "--answers all is not supported with --shard_output" in left.output
    assert "--min_answer_score 0.5 is ignored without --answers all" in done(
        "predict", **common, output_dir=place / "ignored", min_answer_score=0.5
    )
    shutil.copytree(place / "model", place / "other")
    with pytest.raises(ValueError, match="several answers of an ensemble are not joined"):
        Reader([place / "model", place / "other"]).answer("a?", "b", answers="all")
    other = shutil.copytree(prediction, place / "all-2")
    words = [str(prediction), str(other), "--output_dir", str(place / "ensemble")]
    ensemble.run(config.parse(ensemble.Config, words))
    assert "several answers" in capsys.readouterr().out
    assert not (place / "ensemble" / "answers.json").exists()
    assert yaml.safe_load((place / "ensemble" / "config.yaml").read_text())["answers"] == "any"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"q": [3]}, "an answer is a text"),
        ({"q": [{"text": "a", "score": 2}]}, "a score is a number from 0 to 1, found '2'"),
        ({"q": {"text": "a"}}, "expected a list of answers"),
        ({"r": []}, "1 questions have no answers, the first is 'q'"),
    ],
)
def test_score_py_names_what_is_no_list_of_answers(tmp_path, content, message):
    (tmp_path / "gold.json").write_text(json.dumps([{"id": "q", "answers": {"text": ["a"], "answer_start": [0]}}]))
    (tmp_path / "answers.json").write_text(json.dumps(content))
    settings = score.ScoreConfig((str(tmp_path / "gold.json"),), str(tmp_path / "answers.json"), answers="all")
    with pytest.raises(ValueError, match=message):
        score.scores(settings)


def test_score_py_takes_lists_of_texts_single_texts_and_n_best_lists(tmp_path):
    """Breaks if a list without scores gets an area of its own invention, or an n-best list counts as answers."""
    (tmp_path / "gold.json").write_text(
        json.dumps([{"id": "q", "answers": {"text": ["ann", "ben"], "answer_start": [0, 4]}}])
    )

    def scored(content: Any) -> dict[str, Any]:
        (tmp_path / "answers.json").write_text(json.dumps({"q": content}))
        return score.scores(
            score.ScoreConfig((str(tmp_path / "gold.json"),), str(tmp_path / "answers.json"), answers="all")
        )

    texts = scored(["Ann", "ben", "cleo"])
    assert texts["multi_exact_precision"] == pytest.approx(200 / 3) and texts["multi_exact_recall"] == 100
    assert "aupr" not in texts
    assert scored("ann")["multi_exact_recall"] == scored(["ann"])["multi_exact_recall"] == 50
    assert scored([""])["multi_exact_f1"] == scored([])["multi_exact_f1"] == 0
    nbest = [{"text": "ann", "probability": 0.9, "score": 0.1}, {"text": "", "probability": 0.1, "score": 0.1}]
    assert scored(nbest).keys() == {"aupr", "precision_at_80_recall", "precision_at_90_recall", "total"}
    assert scored(nbest)["aupr"] == pytest.approx(50)
