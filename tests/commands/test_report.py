"""scripts/report.py on folders and files: what is written, what is printed, what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from answered_runs import question_rows, right_answers, write_answers, write_questions

from qa_accel import cli
from qa_accel.commands import report
from qa_accel.reporting.run_names import run_names


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


def compared(tmp_path: Path, *words: object) -> dict:
    """comparison.json; the texts of the page in "page"."""
    run(*words, "--output_dir", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    return found | {"page": (tmp_path / "out" / "comparison.html").read_text()}


def wrong_from(rows: list[dict], first: int, count: int = 120) -> dict[str, tuple[str, float]]:
    """All right but `count` questions from `first` on."""
    right = right_answers(rows)
    return right | {key: ("was", -4.0) for key in list(right)[first : first + count]}


def test_one_context_has_no_interval_and_no_claim(tmp_path, capsys):
    """Breaks if the difference passes for its own interval, or if one context decides."""
    rows = question_rows(1)
    questions = write_questions(tmp_path / "dev.json", rows)
    good = write_answers(tmp_path / "good", questions, right_answers(rows))
    bad = write_answers(tmp_path / "bad", questions, wrong_from(rows, 0))
    found = compared(tmp_path, good, bad)
    assert found["differences"]["f1"]["low"] is None and not found["differences"]["f1"]["beyond_chance"]
    assert "one context: no interval" in found["page"]
    assert "A difference of 100.00 F1: too few contexts to tell" in found["page"] and "is better" not in found["page"]


def test_copies_of_a_run_are_no_seeds(rows, questions, tmp_path):
    """Breaks if two equal runs of each side count as seeds without spread, and make any difference certain."""
    sides = [
        write_answers(tmp_path / side / f"seed-{seed}", questions, wrong_from(rows, 0, wrong), settings={"seed": seed})
        for side, wrong in (("a", 10), ("b", 40))
        for seed in range(2)
    ]
    found = compared(tmp_path, *sides[:2], "--against", *sides[2:])
    assert found["differences"]["f1"]["seeds"] is None
    assert [line.partition(":")[0] for line in found["warnings"]] == [
        "a/seed-0 and a/seed-1 of a (2 runs) have the same answers",
        "b/seed-0 and b/seed-1 of b (2 runs) have the same answers",
    ]
    assert "Seeds are not compared: runs of one side have the same answers." in found["page"]


@pytest.fixture
def seeds(rows, questions, tmp_path) -> list[Path]:
    """Two sides of two seeds each, of which no two answer alike; the second run of a has two more settings of its own."""
    own = {"seed": 1, "max_answer_length": 15, "learning_rate": 5e-5}
    return [
        write_answers(tmp_path / "a" / "seed-1", questions, wrong_from(rows, 0, 4), settings={"learning_rate": 3e-5}),
        write_answers(tmp_path / "a" / "seed-2", questions, wrong_from(rows, 8, 9), settings=own),
        write_answers(tmp_path / "b" / "seed-1", questions, wrong_from(rows, 20, 30), threshold=1.0),
        write_answers(tmp_path / "b" / "seed-2", questions, wrong_from(rows, 30, 33)),
    ]


def test_runs_of_a_side_differ_in_their_seed_alone_or_it_is_said(seeds, tmp_path):
    """Breaks if only the first run of each side is looked at."""
    found = compared(tmp_path, *seeds[:2], "--against", *seeds[2:])
    a, b = "a (2 runs)", "b (2 runs)"
    assert found["warnings"] == [
        f"The runs of {a} differ in more than their seed: learning_rate (3e-05 or 5e-05), max_answer_length (30 or 15).",
        f"The thresholds of {b} differ from run to run: 1, 0 (used by the run).",
        f"The thresholds differ: 0, 0 (used by the run) for {a}, 1, 0 (used by the run) for {b}.",
        f"max_answer_length is 30 or 15 for {a} and 30 for {b}.",
    ]


def test_of_several_seeds_it_is_said_what_only_the_first_run_shows(seeds, tmp_path):
    """Names are of the runs, not of the last folders alone. Breaks if seed-1 of both sides are one name, if a mean of two runs
    passes for one right answer, or if F1 alone is shown by seed."""
    found = compared(tmp_path, *seeds[:2], "--against", *seeds[2:])
    assert found["one"]["runs"] == ["a/seed-1", "a/seed-2"] and found["other"]["runs"] == ["b/seed-1", "b/seed-2"]
    page = found["page"]
    assert '["a/seed-1","b/seed-1"]' in page.replace('", "', '","'), "the explorer's names"
    assert "What became of the answers (first run of each side: b/seed-1, a/seed-1)" in page
    assert "are those of the first run of each side, a/seed-1 and b/seed-1" in page
    assert "a (2 runs) more often right" in page and "only a (2 runs) right" not in page
    assert "Over seeds the difference of exact match is" in page and "Over seeds the difference of F1 is" in page


def test_names_show_at_most_two_folders(tmp_path):
    """Breaks if a page that is passed on shows where runs are, or if two runs have one name."""
    ends = ["x/v1/seed-1", "y/v1/seed-1", "y/v1/seed-2"]
    assert run_names([tmp_path / end for end in ends]) == ["v1/seed-1 (1)", "v1/seed-1 (2)", "v1/seed-2"]
    assert run_names([tmp_path / "x" / "one", tmp_path / "y" / "two"]) == ["one", "two"]


def test_tuned_thresholds_are_no_warning_but_a_tuned_one_against_none_is(rows, questions, tmp_path):
    """Two trainings, each with its own tuned threshold, and one without: breaks if every comparison of two trainings has a warning.
    By hand: both have the same spans, but the null odds of b are higher by 5. At 0 it answers nothing, which is right of a quarter;
    at 3 it answers as a does at 0.5."""
    right = right_answers(rows)
    a = write_answers(tmp_path / "a", questions, right, settings={"learning_rate": 3e-5})
    b = write_answers(tmp_path / "b", questions, {key: (text, odds + 5) for key, (text, odds) in right.items()})
    c = write_answers(tmp_path / "c", questions, right, settings={"learning_rate": 3e-5})
    for folder, threshold in ((a, 0.5), (b, 3.0)):
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        settings |= {"learning_rate": 3e-5, "null_score_diff_threshold": None}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        policy = {"answer_policy": {"null_score_diff_threshold": threshold}}
        (folder / "config.json").write_text(json.dumps(policy))
    found = compared(tmp_path, a, b)
    assert found["warnings"] == []
    assert "Each model has its own tuned threshold: 0.5 (tuned by the run" in found["page"]
    differences = found["differences"]
    assert [differences[name]["difference"] for name in ("f1", "f1_threshold_0", "best_f1")] == [0.0, 75.0, 0.0]
    assert "F1 at threshold 0" in found["page"] and "at each one" in found["page"]
    (warning,) = compared(tmp_path, b, c)["warnings"]
    assert warning.startswith("The thresholds differ: 3 (tuned") and "A tuned threshold is an advantage" in warning


def test_other_questions_under_one_id_are_not_compared(good, rows, tmp_path):
    """Breaks if only contexts and gold answers must be equal."""
    other = [dict(row) for row in rows]
    other[0]["question"] = "Where was somebody else born?"
    questions = write_questions(tmp_path / "other.json", other)
    folder = write_answers(tmp_path / "reworded", questions, right_answers(other))
    found = compared(tmp_path, good, folder)
    assert found["questions"] == 119
    assert "1 of 120 questions of 'reworded' are not in the others, or have another text" in "\n".join(
        found["warnings"]
    )


def test_a_file_of_predictions_does_not_overwrite_the_report_of_its_run(good, questions, tmp_path, capsys):
    """Breaks if the poorer report of a file takes the name of the run's."""
    file, given = good / "predictions.json", ("--validation_file", questions)
    assert "is a file: give the folder for its report with --output_dir" in refused(capsys, file, *given)
    assert not (good / "error_analysis.json").exists()
    run(file, *given, "--console")
    assert "answers are wrong" in capsys.readouterr().out
    run(file, *given, "--output_dir", tmp_path / "out")
    assert (tmp_path / "out" / "report.html").exists() and not (good / "report.html").exists()


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
