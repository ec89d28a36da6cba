"""scripts/ensemble.py on folders of answers made by hand: what it writes and says, and what it refuses."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from answered_runs import question_rows, right_answers, write_answers, write_questions

from qa_accel import cli
from qa_accel.commands import ensemble
from qa_accel.commands.settings.ensemble import EnsembleConfig
from qa_accel.evaluation.squad_scores import squad_scores

CONTEXTS = 30
FILES = {"predictions.json", "nbest_predictions.json", "null_odds.json", "confidences.json", "all_results.json"}
FILES |= {"config.yaml", "ensemble.json", ".lock"}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def change(path: Path, edit: Any) -> None:
    content = read(path)
    edit(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def answered(tmp_path_factory) -> Path:
    """Three members and 120 questions. On every third context one of them prefers "1903" a little, and the other two are sure of
    what is right. About the third question of the first ten contexts all are sure of what is wrong."""
    folder = tmp_path_factory.mktemp("answered")
    rows = question_rows(CONTEXTS)
    questions = write_questions(folder / "dev.json", rows)
    for member in range(3):
        answers = right_answers(rows)
        for row in rows:
            context = int(row["id"].partition("-")[0])
            if context % 3 == member and row["answers"]["text"]:
                answers[row["id"]] = ("1903", -1.0)
            if context < 10 and row["id"].endswith("-2"):
                answers[row["id"]] = ("1903", -4.0)
        write_answers(folder / f"seed-{member}", questions, answers)
    return folder


@pytest.fixture(scope="module")
def joined(answered, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("joined") / "ensemble"
    ensemble.run(EnsembleConfig(tuple(answered / f"seed-{member}" for member in range(3)), str(folder)))
    return folder


def test_the_files_of_an_ensemble_are_there_and_agree(answered, joined):
    assert {path.name for path in joined.iterdir()} == FILES
    results, content = read(joined / "all_results.json"), read(joined / "ensemble.json")
    golds = {row["id"]: row["answers"]["text"] for row in question_rows(CONTEXTS)}
    scores = squad_scores(read(joined / "predictions.json"), golds)
    assert results["exact"] == scores["exact"] == 100 * 110 / 120 and results["total"] == 4 * CONTEXTS
    assert results["null_score_diff_threshold"] == content["answer_policy"]["null_score_diff_threshold"]
    assert content["answer_policy"]["temperature"] > 0 and results["confidence_questions"] < 4 * CONTEXTS
    assert [member["weight"] for member in content["members"]] == [1 / 3] * 3
    settings = yaml.safe_load((joined / "config.yaml").read_text())
    assert settings["split"] == "validation" and settings["validation_file"] == [str(answered / "dev.json")]


def test_the_table_and_the_gains_are_those_worked_by_hand(joined):
    """A member is wrong about the 3 answerable questions of each of its 10 contexts, and about the 10 of which all are wrong; of these
    seed-0 has 4 in its own contexts, the others 3: 36, 37 and 37 of 120. The ensemble is wrong about 10. Breaks if members and
    ensemble are judged differently, or the gain is not paired by question."""
    content = read(joined / "ensemble.json")
    exact = {name: row["exact"] for name, row in content["scores"]["members"].items()}
    assert exact == pytest.approx({"seed-0": 70.0, "seed-1": 100 * 83 / 120, "seed-2": 100 * 83 / 120})
    mean, own = content["scores"]["mean"]["exact"], content["scores"]["ensemble"]["exact"]
    assert mean == pytest.approx(100 * (84 + 83 + 83) / 360) and own == pytest.approx(100 * 110 / 120)
    assert content["gain_over_mean"]["exact"]["gain"] == pytest.approx(own - mean)
    assert content["gain_over_best"]["exact"]["gain"] == pytest.approx(own - 70.0)
    assert content["gain_over_best"]["member"] == "seed-0"
    widths = []
    for gain in (content["gain_over_mean"]["exact"], content["gain_over_best"]["exact"]):
        low, high = gain["interval"]
        assert 0 < low < gain["gain"] < high
        widths.append(high - low)
    assert widths[0] < widths[1], "one of three members is wrong on every context, a given one on a third of them"


def test_the_order_of_the_runs_changes_no_answer(answered, joined, tmp_path):
    ensemble.run(EnsembleConfig(tuple(answered / f"seed-{member}" for member in (2, 0, 1)), str(tmp_path / "other")))
    for name in ("predictions", "nbest_predictions", "null_odds", "confidences", "all_results"):
        assert (tmp_path / "other" / f"{name}.json").read_bytes() == (joined / f"{name}.json").read_bytes()


def test_a_report_compares_an_ensemble_with_a_member(answered, joined, tmp_path, capsys, monkeypatch):
    """Breaks if the folder has no settings that a report can read, or its threshold is not the one of its answers."""
    pytest.importorskip("plotly")
    for words in ([str(joined)], [str(joined), str(answered / "seed-0")]):
        monkeypatch.setattr(sys, "argv", ["report", *words, "--output_dir", str(tmp_path / "report")])
        cli.main("report")
    assert {"report.html", "comparison.html"} <= {path.name for path in (tmp_path / "report").iterdir()}
    found = read(tmp_path / "report" / "comparison.json")
    assert found["differences"]["exact"]["difference"] == pytest.approx(100 * 26 / 120)
    assert str(answered) not in (tmp_path / "report" / "comparison.html").read_text(), "reports are passed on"


def test_without_gold_answers_lists_are_joined_by_the_mean_of_the_thresholds(answered, joined, tmp_path, capsys):
    rows = [{key: value for key, value in row.items() if key != "answers"} for row in question_rows(CONTEXTS)]
    questions = write_questions(tmp_path / "test.json", rows)
    runs = []
    for member in range(2):
        runs.append(tmp_path / f"member-{member}")
        shutil.copytree(answered / f"seed-{member}", runs[-1])
        settings = yaml.safe_load((runs[-1] / "config.yaml").read_text())
        settings |= {"validation_file": None, "test_file": [str(questions)]}
        (runs[-1] / "config.yaml").write_text(yaml.safe_dump(settings))
    folder = tmp_path / "ensemble"
    folder.mkdir()
    (folder / "all_results.json").write_text("{}")
    ensemble.run(EnsembleConfig(tuple(runs), str(folder)))
    assert "no gold answers" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == FILES - {"confidences.json", "all_results.json"}
    assert read(folder / "predictions.json").keys() == read(joined / "predictions.json").keys()
    assert "scores" not in read(folder / "ensemble.json")


def test_without_unanswerable_questions_nothing_is_tuned(tmp_path, capsys):
    """SQuAD v1.1: lists of spans alone, and every question is answered with its best span."""
    rows = [row for row in question_rows(CONTEXTS) if row["answers"]["text"]]
    questions = write_questions(tmp_path / "dev.json", rows)
    runs = []
    for member in range(2):
        answers = right_answers(rows)
        runs.append(
            write_answers(tmp_path / f"seed-{member}", questions, answers, settings={"version_2_with_negative": False})
        )
        change(
            runs[-1] / "nbest_predictions.json",
            lambda content: [
                content.update({key: [e for e in entries if e["text"]]}) for key, entries in content.items()
            ],
        )
    ensemble.run(EnsembleConfig(tuple(runs), str(tmp_path / "ensemble")))
    results = read(tmp_path / "ensemble" / "all_results.json")
    assert results["exact"] == 100.0 and "null_score_diff_threshold" not in results
    assert all(
        len(entries) == 1 and entries[0]["text"]
        for entries in read(tmp_path / "ensemble" / "nbest_predictions.json").values()
    )
    assert "thresholds" not in read(tmp_path / "ensemble" / "ensemble.json")["scores"]["ensemble"]


def refused(capsys, monkeypatch, *words: Any) -> str:
    monkeypatch.setattr(sys, "argv", ["ensemble", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main("ensemble")
    assert left.value.code == 2
    [message] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ensemble: ")]
    return message


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["seed-0"], "1 run given; an ensemble has 2 to 100"),
        (["seed-0", "seed-1", "seed-0"], "is given twice"),
        (["seed-0", "seed-1/../seed-0"], "is given twice"),
        (["seed-0", "no-such"], "no such folder or file"),
        (["seed-0", "seed-1/predictions.json"], "holds no nbest_predictions.json"),
    ],
)
def test_runs_that_make_no_ensemble_are_refused(answered, tmp_path, capsys, monkeypatch, runs, message):
    words = [answered / name for name in runs]
    assert message in refused(capsys, monkeypatch, *words, "--output_dir", tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is left"


def damaged(content: Any) -> None:
    content.pop("0-0")


def other_place(content: Any) -> None:
    content["0-0"][0]["start"] += 1
    content["0-0"][0]["end"] += 1


def not_finite(content: Any) -> None:
    content["0-0"][0]["start_logit"] = float("nan")


def huge(content: Any) -> None:
    content["0-0"][0]["end_logit"] = 1e300


def without_empty(content: Any) -> None:
    for key, entries in content.items():
        content[key] = [entry for entry in entries if entry["text"]]


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("nbest_predictions", damaged, "nbest_predictions.json has no answer for 1 questions, the first is '0-0'"),
        ("predictions", damaged, "predictions.json has no answer for 1 questions"),
        (
            "predictions",
            lambda content: content.update(new="x"),
            "has an answer for 1 questions, which the others do not",
        ),
        ("nbest_predictions", other_place, "'0-0': '1903' is not at "),
        ("nbest_predictions", not_finite, "which is no logit; the lists are damaged"),
        ("nbest_predictions", huge, "which is no logit; the lists are damaged"),
        ("nbest_predictions", without_empty, 'ranks "no answer" for every question'),
        ("nbest_predictions", lambda content: content.update({"0-0": []}), "'0-0': expected a list of answers"),
        ("nbest_predictions", lambda content: content.update({"0-0": 3}), "'0-0': expected a list of answers"),
    ],
)
def test_damaged_lists_are_refused_with_run_and_question(answered, tmp_path, capsys, monkeypatch, name, edit, message):
    """Breaks if a damaged member is joined, or the message does not say which it is."""
    shutil.copytree(answered / "seed-0", tmp_path / "bad")
    change(tmp_path / "bad" / f"{name}.json", edit)
    said = refused(capsys, monkeypatch, answered / "seed-1", tmp_path / "bad", "--output_dir", tmp_path / "out")
    assert message in said and "bad" in said
    assert not (tmp_path / "out").exists()


def test_a_member_or_a_training_run_is_not_written_over(answered, joined, tmp_path, capsys, monkeypatch):
    runs = [answered / "seed-0", answered / "seed-1"]
    assert "is a member; its answers" in refused(capsys, monkeypatch, *runs, "--output_dir", runs[0])
    (tmp_path / "metrics.jsonl").write_text("")
    assert "is the folder of a training run" in refused(capsys, monkeypatch, *runs, "--output_dir", tmp_path)
    said = refused(capsys, monkeypatch, runs[0], joined, "--output_dir", tmp_path / "out")
    assert "is an ensemble itself; give its members" in said
