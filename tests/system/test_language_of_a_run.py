"""--answer_language from the command line to the files: training, prediction, scores, reports, summary, ensemble."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from answered_runs import write_answers, write_questions
from launches import refused
from toy import WINDOWS, flags

from qa_accel import cli, config
from qa_accel.commands import ensemble, report, score, summary

CONTEXT = "奧林橋於一九三一年由霍爾特開通，跨越盧梅河。"
WARNING = "gold answers hold no ASCII letter or digit, and --answer_language is en"


def rows(count: int = 1) -> list[dict]:
    """Of each context who opened the bridge, when, and why, which it does not say."""
    found = []
    for place in range(count):
        context = CONTEXT + "一" * place
        for name, answer in (("who", "霍爾特"), ("when", "一九三一年"), ("why", None)):
            answers = {"text": [answer] if answer else [], "answer_start": [context.index(answer)] if answer else []}
            found.append({"id": f"{place}-{name}", "question": f"{name}？", "context": context, "answers": answers})
    return found


ANSWERS = {"who": ("由霍爾特", -1.0), "when": ("一九三一年由", -3.0), "why": ("盧梅河", 2.0)}
"""F1 6/7 and 10/11 by characters; "no answer" at threshold 0 where there is none."""
F1 = 100 * (6 / 7 + 10 / 11 + 1) / 3


@pytest.fixture
def questions(tmp_path) -> Path:
    return write_questions(tmp_path / "dev.json", rows())


def answered(folder: Path, questions: Path, language: str) -> Path:
    found = {row["id"]: ANSWERS[row["id"].split("-")[1]] for row in json.loads(questions.read_text())["data"]}
    return write_answers(folder, questions, found, settings={"answer_language": [language]})


def said(capsys, command: str, *words: object) -> str:
    """The message of a call that a user can fix."""
    sys.argv = [f"{command}.py", *map(str, words)]
    with pytest.raises(SystemExit) as error:
        cli.main(command)
    assert error.value.code == 2
    return capsys.readouterr().err


# --- files of predictions


def test_score_compares_by_the_language_and_names_it(questions, tmp_path, capsys):
    """Breaks if the flag does not reach the scores, or if a file of Chinese scores looks like one of English ones."""
    predictions = tmp_path / "predictions.json"
    predictions.write_text(json.dumps({"0-who": "由霍爾特", "0-when": "一九三一年。", "0-why": ""}))
    words = ["--validation_file", str(questions), "--predictions_file", str(predictions)]
    score.run(config.parse(score.ScoreConfig, [*words, "--answer_language", "zh"]))
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["HasAns_exact"], found["HasAns_f1"]) == (50.0, pytest.approx(100 * (6 / 7 + 1) / 2))
    assert found["answer_language"] == "zh" and printed.err == ""
    score.run(config.parse(score.ScoreConfig, words))
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["HasAns_f1"] == 0.0 and "answer_language" not in found
    assert printed.err.count(WARNING) == 1 and "give --answer_language zh" in printed.err
    assert "answer_language must be one of ar bn" in said(capsys, "score", *words, "--answer_language", "cn")


# --- folders of answers


def test_a_report_takes_the_language_of_its_run(questions, tmp_path, capsys):
    """Breaks if the report scores by English, in which nothing is right, or does not say what it scores by."""
    run = answered(tmp_path / "run", questions, "zh")
    report.run(config.parse(report.ReportConfig, [str(run)]))
    out = capsys.readouterr().out
    assert f"F1 {F1:.2f}, exact match 33.33 on 3 questions, answer language zh" in out
    kinds = json.loads((run / "error_analysis.json").read_text())["kind_of"]
    assert kinds == {"0-who": "other_words", "0-when": "other_words", "0-why": "right"}
    assert "answer language zh" in (run / "report.html").read_text(encoding="utf-8")
    report.run(
        config.parse(report.ReportConfig, [str(run), "--answer_language", "en", "--output_dir", str(tmp_path / "en")])
    )
    assert "F1 33.33, exact match 33.33 on 3 questions\n" in capsys.readouterr().out


def test_sides_of_two_languages_are_not_compared(questions, tmp_path, capsys):
    """Breaks if a difference of rules passes for one of models. One language for both may be given."""
    one, other = (answered(tmp_path / language, questions, language) for language in ("zh", "char"))
    message = said(capsys, "report", one, other, "--console")
    assert f"{one} is scored with --answer_language zh, {other} with char" in message
    words = [str(one), str(other), "--answer_language", "zh", "--output_dir", str(tmp_path / "both")]
    report.run(config.parse(report.ReportConfig, words))
    assert "answer language zh" in capsys.readouterr().out
    found = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert found["answer_language"] == "zh" and found["differences"]["f1"]["one"] == pytest.approx(F1)


def test_an_ensemble_is_tuned_and_scored_by_the_language_of_its_members(tmp_path, capsys):
    """20 contexts, so that there is something to calibrate. Breaks if tuning, scores or the stored policy are English."""
    questions = write_questions(tmp_path / "dev.json", rows(40))
    one, other, third = (
        answered(tmp_path / name, questions, language) for name, language in (("a", "zh"), ("b", "zh"), ("c", "en"))
    )
    ensemble.run(config.parse(ensemble.EnsembleConfig, [str(one), str(other), "--output_dir", str(tmp_path / "both")]))
    results = json.loads((tmp_path / "both" / "all_results.json").read_text())
    assert results["answer_language"] == "zh" and results["f1"] == pytest.approx(F1)
    assert yaml.safe_load((tmp_path / "both" / "config.yaml").read_text())["answer_language"] == ["zh"]
    capsys.readouterr()
    message = said(capsys, "ensemble", one, third, "--output_dir", tmp_path / "no")
    assert f"{one} was scored with --answer_language zh, {third} with en" in message


def test_a_summary_names_the_language_and_does_not_mix_several(tmp_path, capsys):
    """Copies of scores, without the run's settings. Breaks if the mean of Chinese and English scores is printed."""
    paths = []
    for name, language in (("a", "zh"), ("b", "zh"), ("c", "en")):
        path = tmp_path / name / "scores.json"
        path.parent.mkdir()
        path.write_text(
            json.dumps({"f1": 80.0, "exact": 70.0} | ({"answer_language": language} if language != "en" else {}))
        )
        paths.append(path)
    target = tmp_path / "summary.json"
    summary.run(config.parse(summary.SummaryConfig, [*map(str, paths[:2]), "--output_file", str(target)]))
    assert "2 runs, answer language zh" in capsys.readouterr().out
    assert json.loads(target.read_text())["answer_language"] == "zh"
    message = said(capsys, "summary", *paths)
    assert "several values of --answer_language: zh in a, zh in b, en in c" in message


# --- runs


def test_a_training_run_warns_once_and_by_the_flag_scores_and_stores_the_language(trainer, tmp_path):
    """Breaks if the warning is missing or comes twice, or if the run's files forget what its scores were made by."""
    dev = write_questions(tmp_path / "dev.json", rows(12))
    [left] = trainer(tmp_path / "warned", validation_file=dev, max_train_hours=1e-7)  # stopped after its first step
    assert left.code == 0, left.output
    assert left.output.count(WARNING) == 1 and "give --answer_language zh" in left.output
    run = tmp_path / "run"
    [left] = trainer(run, validation_file=dev, max_train_steps=2, answer_language="zh")
    assert left.code == 0, left.output
    assert WARNING not in left.output and "36 questions, answer language zh" in left.output
    results = json.loads((run / "all_results.json").read_text())
    assert results["answer_language"] == "zh"
    assert results["f1"] >= results["exact"]
    assert yaml.safe_load((run / "config.yaml").read_text())["answer_language"] == ["zh"]
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "compared by the rules for `zh`" in card and card.count("--answer_language zh") >= 2
    assert "answer language zh" in (run / "report.html").read_text(encoding="utf-8")


def test_one_rank_and_two_find_the_same_scores(toy, tmp_path):
    """Breaks if a rank does not get the language, or compares by another."""
    dev = write_questions(tmp_path / "dev.json", rows(8))
    words = flags(
        model_name_or_path=toy.model, test_file=dev, cache_dir=tmp_path / "cache", answer_language="zh", **WINDOWS
    )
    results = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        for left in refused(
            "predict.py", *words, "--output_dir", folder, processes=processes
        ):  # it is not: it ends well
            assert left.code == 0, left.output
        results.append(json.loads((folder / "all_results.json").read_text()))
    assert results[0] == results[1] and results[0]["answer_language"] == "zh"
    assert results[0]["HasAns_f1"] > 0, "parts of answers are right by characters"
    [left] = refused("predict.py", *words, "--answer_language", "cn", "--output_dir", tmp_path / "no")
    assert left.code == 2 and "answer_language must be one of ar bn" in left.output
