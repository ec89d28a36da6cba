"""scripts/report.py on folders and files: what is written, what is printed, what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from answered_runs import question_rows, right_answers, write_answers, write_questions

from qa_accel import cli
from qa_accel.commands import report


@pytest.fixture
def rows() -> list[dict]:
    return question_rows(30)


@pytest.fixture
def questions(tmp_path, rows) -> Path:
    return write_questions(tmp_path / "dev.json", rows)


@pytest.fixture
def good(tmp_path, rows, questions) -> Path:
    return write_answers(tmp_path / "good", questions, right_answers(rows))


@pytest.fixture
def bad(tmp_path, rows, questions) -> Path:
    """All answers that are 1970 are wrong; one question that the other has wrong is right: none."""
    answers = {key: ("Oslo" if text == "1970" else text, odds) for key, (text, odds) in right_answers(rows).items()}
    return write_answers(tmp_path / "bad", questions, answers)


def run(*words: object) -> None:
    from qa_accel import config

    report.run(config.parse(report.ReportConfig, list(map(str, words))))


def refused(capsys, *words: object) -> str:
    """The message of a call that a user can fix."""
    sys.argv = ["report.py", *map(str, words)]
    with pytest.raises(SystemExit) as error:
        cli.main("report")
    assert error.value.code == 2
    return capsys.readouterr().err


def test_one_run_gives_a_report_and_an_analysis_beside_its_answers(bad, capsys):
    run(bad)
    analysis = json.loads((bad / "error_analysis.json").read_text())
    assert analysis["questions"] == 120 and analysis["wrong"] == 30
    assert analysis["slices"][0]["value"] in ("when", "date", "last quarter"), "what is wrong for sure"
    assert analysis["slices"][0]["verdict"] == "worse" and analysis["slices"][0]["exact"] == 0.0
    assert analysis["kind_of"]["3-1"] == "wrong_span" and analysis["kind_of"]["3-0"] == "right"
    assert (bad / "report.html").stat().st_size < 6_000_000
    assert "exact match 75.00" in capsys.readouterr().out


def test_the_console_shows_the_analysis_and_writes_nothing(bad, good, tmp_path, capsys):
    """Breaks if tables of somebody else's run need the right to write there."""
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "cache" not in path.parts}
    run(bad, "--console")
    out = capsys.readouterr().out
    for expected in ("30 of 120 answers are wrong", "Confident and wrong", "Worse beyond chance", "wrong span"):
        assert expected in out
    run(bad, good, "--console")
    assert "What became of the answers" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
    run(bad, "--console", "--output_dir", tmp_path / "out")
    run(bad, good, "--console", "--output_dir", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["comparison.json", "error_analysis.json"]


def test_two_runs_give_a_comparison_with_every_flip(good, bad, tmp_path, capsys):
    """30 answers flip, all for the better: the sign test's p is 2 / 2**30. Breaks if the sides are mixed up."""
    out = tmp_path / "out"
    run(good, bad, "--output_dir", out)
    found = json.loads((out / "comparison.json").read_text())
    assert (found["better"], found["worse"], found["p_value"]) == (30, 0, pytest.approx(2 / 2**30))
    exact = found["differences"]["exact"]
    assert (exact["difference"], exact["low"], exact["high"]) == (25.0, 25.0, 25.0), "the same in every context"
    assert exact["beyond_chance"] and exact["seeds"] is None
    assert [flip["id"] for flip in found["flips"]] == [f"{place}-1" for place in range(30)]
    assert found["warnings"] == []
    run(bad, good, "--output_dir", out)
    assert json.loads((out / "comparison.json").read_text())["differences"]["exact"]["difference"] == -25.0
    assert not (good / "report.html").exists() and (out / "comparison.html").exists()


def test_prediction_files_are_compared_on_given_questions(good, bad, questions, tmp_path):
    run(
        good / "predictions.json",
        bad / "predictions.json",
        "--validation_file",
        questions,
        "--output_dir",
        tmp_path / "out",
    )
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["better"] == 30 and found["one"]["name"] == "good/predictions.json"


def test_other_data_thresholds_and_settings_are_warned_of(good, rows, tmp_path):
    """Breaks if a difference of data or thresholds passes for one of models."""
    other = [dict(row) for row in rows[:40]]
    other[0] = other[0] | {"answers": {"text": ["Oslo"], "answer_start": [other[0]["context"].index("Oslo")]}}
    questions = write_questions(tmp_path / "other.json", other)
    folder = write_answers(
        tmp_path / "tuned", questions, right_answers(other), threshold=1.0, settings={"max_answer_length": 15}
    )
    run(good, folder, "--output_dir", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["questions"] == 39
    text = "\n".join(found["warnings"])
    assert "81 of 120 questions of 'good'" in text and "1 of 40 questions of 'tuned'" in text
    assert "The thresholds differ: 0 (used by the run) for good, 1 (used by the run) for tuned." in text
    assert "A tuned threshold" not in text, "both were given"
    assert "max_answer_length is 30 for good and 15 for tuned" in text


def test_seeds_of_both_sides_are_compared_by_their_spread(rows, questions, tmp_path):
    """Three runs each, of 90, 91, 92 and 100, 101, 102 right answers. Welch: t = 10 / sqrt(2 / 3), 4 degrees of freedom."""
    sides = []
    for side, first in (("a", 100), ("b", 90)):
        for seed in range(3):
            right = right_answers(rows)
            wrong = {key: ("was", -4.0) for key in list(right)[first + seed :]}
            sides.append(write_answers(tmp_path / side / f"seed-{seed}", questions, right | wrong))
    run(*sides[:3], "--against", *sides[3:], "--output_dir", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["one"]["name"] == "a (3 runs)"
    seeds = found["differences"]["exact"]["seeds"]
    assert seeds["difference"] == pytest.approx(100 * 10 / 120)
    half = 2.7764 * (2 / 3) ** 0.5 * 100 / 120
    assert (seeds["low"], seeds["high"]) == (
        pytest.approx(100 * 10 / 120 - half, abs=1e-3),
        pytest.approx(100 * 10 / 120 + half, abs=1e-3),
    )


def test_what_cannot_be_reported_is_refused_in_one_line(good, bad, tmp_path, capsys):
    assert "give a run" in refused(capsys)
    assert "is given twice" in refused(capsys, good, good)
    assert "give those of the other side to --against" in refused(capsys, good, bad, tmp_path)
    assert "no such folder or file" in refused(capsys, tmp_path / "none")
    assert "--push_to_hub uploads a training run" in refused(capsys, good, bad, "--push_to_hub")
    unrelated = write_questions(
        tmp_path / "unrelated.json", [row | {"id": f"x{row['id']}"} for row in question_rows(2)]
    )
    other = write_answers(
        tmp_path / "other", unrelated, {f"x{k}": v for k, v in right_answers(question_rows(2)).items()}
    )
    assert "no id in common" in refused(capsys, good, other)


def test_without_the_extra_the_way_to_get_it_is_said(good):
    """Breaks if a missing package is a traceback, or --console needs plotly."""
    hide = "import sys; sys.modules.update(dict.fromkeys({names})); sys.argv = ['report.py', {folder!r}, *{more}]; "
    hide += "from qa_accel import cli; cli.main('report')"

    def without(names: list[str], *more: str) -> subprocess.CompletedProcess:
        command = hide.format(names=names, folder=str(good), more=list(more))
        return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)

    left = without(["plotly", "scipy"])
    assert left.returncode == 2 and "reports need scipy and plotly: pip install 'qa-accel[report]'" in left.stderr
    assert without(["plotly"], "--console").returncode == 0
