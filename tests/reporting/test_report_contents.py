"""A judged run -> sections, figures and embedded questions: their order, their sizes, their numbers."""

import json

import numpy as np
import pytest
from answered_runs import question_rows, right_answers, write_answers, write_questions

from qa_accel.evaluation.error_kinds import KINDS
from qa_accel.reporting import contents
from qa_accel.reporting.blocks import MOST_POINTS, Figure, Report, Table
from qa_accel.reporting.html_page import render
from qa_accel.reporting.judged_run import judge
from qa_accel.reporting.run_data import GivenData, load_data
from qa_accel.reporting.run_files import read_run

CONTEXTS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """1,600 questions, a third of the answers wrong, and a log of 5,000 steps."""
    folder = tmp_path_factory.mktemp("contents")
    rows = question_rows(CONTEXTS)
    generator = np.random.default_rng(0)
    answers = {
        key: ("was" if generator.random() < 1 / 3 else text, odds + generator.normal())
        for key, (text, odds) in right_answers(rows).items()
    }
    questions = write_questions(folder / "dev.json", rows)
    settings = {"learning_rate": 1e-4, "seed": 7, "output_dir": "somewhere"}
    folder = write_answers(folder / "run", questions, answers, settings=settings)
    lines = [
        {"step": n, "loss": 5000 / n, "learning_rate": 1e-4, "grad_norm": None, "windows_per_second": 9.0}
        for n in range(1, 5001)
    ]
    lines += [{"step": 5000, "eval_f1": 60.0, "eval_exact": 50.0}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = {"seconds": 100.0, "seconds_of": {"steps": 90.0, "evaluation": 10.0}, "steps": 5000, "best_step": 5000}
    (folder / "all_results.json").write_text(json.dumps(results | {"null_score_diff_threshold": 0.0}))
    return folder


def judged(folder):
    files = read_run(folder)
    return judge(files, load_data(files, GivenData()))


@pytest.fixture(scope="module")
def report(folder) -> Report:
    return contents.report(judged(folder), {"learning_rate": 1e-4, "seed": 42, "max_answer_length": 30})


def blocks_of(report: Report, kind: type) -> list:
    return [block for section in report.sections for block in section.blocks if isinstance(block, kind)]


def test_sections_come_in_the_order_of_the_questions_that_people_ask(report):
    assert [section.id for section in report.sections] == [
        *("run", "scores", "training", "threshold", "confidence", "data", "errors")
    ]


def test_no_curve_has_more_points_than_a_report_can_hold(report):
    """Breaks if raw steps or null odds are plotted: 5,000 steps and 1,600 thresholds are here."""
    figures = blocks_of(report, Figure)
    assert [figure.id for figure in figures] == [
        *(
            "loss",
            "learning-rate",
            "windows-per-second",
            "evaluations",
            "threshold",
            "reliability",
            "risk-coverage",
            "kinds",
        )
    ], "a gradient norm that was never measured has no figure"
    for figure in figures:
        for curve in figure.curves:
            assert 0 < len(curve.x) == len(curve.y) <= MOST_POINTS
            assert len(curve.y_low) in (0, len(curve.x)) and len(curve.y_high) in (0, len(curve.x))


def test_aggregated_steps_keep_mean_and_range(report):
    """200 parts of 25 steps: the first holds 5000/1 to 5000/25. Breaks if steps are skipped instead."""
    [loss] = [figure for figure in blocks_of(report, Figure) if figure.id == "loss"]
    band, mean = loss.curves
    first = [5000 / n for n in range(1, 26)]
    assert mean.x[0] == 13 and mean.y[0] == pytest.approx(sum(first) / 25)
    assert (band.y_low[0], band.y_high[0]) == (pytest.approx(200.0), 5000.0)


def test_the_threshold_figure_has_the_runs_scores_at_the_runs_threshold(folder, report):
    run = judged(folder)
    [figure] = [figure for figure in blocks_of(report, Figure) if figure.id == "threshold"]
    f1 = next(curve for curve in figure.curves if curve.name == "F1")
    for x, y in list(zip(f1.x, f1.y))[::40]:
        assert y == pytest.approx(100 * run.outcomes.scores_at(float(x))[:, 1].mean())
    assert figure.marks["chosen 0"] == 0.0


def test_only_settings_that_were_given_are_listed(report):
    """Breaks if fifty defaults hide the two settings that matter, or the command does not have them."""
    [table] = [table for table in blocks_of(report, Table) if table.caption == "Settings that differ from the defaults"]
    names = [row[0] for row in table.rows]
    assert "seed" in names and "model_name_or_path" in names
    assert not {"learning_rate", "max_answer_length", "output_dir", "cache_dir"} & set(names)


def test_kinds_of_wrong_answers_are_bars_of_all_questions(folder, report):
    """Breaks if right answers dwarf the wrong ones, or kinds without any have a bar."""
    [figure] = [figure for figure in blocks_of(report, Figure) if figure.id == "kinds"]
    [bars] = figure.curves
    wrong = {KINDS[kind]: count for kind, count in judged(folder).analysis.kinds.items() if count and kind != "right"}
    assert dict(zip(bars.x, bars.y)) == wrong and list(bars.y) == sorted(wrong.values(), reverse=True)


def test_a_question_without_text_is_listed_by_its_id_and_rows_open_their_questions(tmp_path):
    """Breaks if a row of the most confident errors is blank, or says less to a screen reader than a number."""
    rows = question_rows(1)
    rows[0]["question"] = "  "
    questions = write_questions(tmp_path / "dev.json", rows)
    run = judged(write_answers(tmp_path / "run", questions, right_answers(rows) | {"0-0": ("1903", -4.0)}))
    table = contents.confident_and_wrong(run)
    assert table.columns[0] == "question" and table.rows[0][:3] == ("0-0", "Lima", "1903")
    assert table.filters == [{"id": "0-0"}]


def test_everything_right_makes_a_report_too(tmp_path):
    """Breaks if a division by the number of errors, or an empty table, ends in a traceback."""
    rows = question_rows(3)
    questions = write_questions(tmp_path / "dev.json", rows)
    run = judged(write_answers(tmp_path / "run", questions, right_answers(rows)))
    report = contents.report(run, {})
    assert "F1 100.00" in report.subtitle
    [errors] = [section for section in report.sections if section.id == "errors"]
    assert [block.text for block in errors.blocks] == ["0 of 12 answers are wrong (at threshold 0)."]
    assert "0 of 12 answers are wrong" in render(report)


@pytest.mark.parametrize("place", [0, 3], ids=["answerable", "unanswerable"])
def test_one_question_makes_a_report_too(tmp_path, place):
    """Breaks if a figure of one question has no point, or an axis of no width ends in a traceback."""
    rows = question_rows(1)[place : place + 1]
    questions = write_questions(tmp_path / "dev.json", rows)
    run = judged(write_answers(tmp_path / "run", questions, right_answers(rows)))
    report = contents.report(run, {})
    assert report.explorer is not None and report.explorer.chosen == "The only question of the data."
    page = render(report)
    for figure in blocks_of(report, Figure):
        assert f'data-figure="{figure.id}"' in page and all(len(curve.x) > 0 for curve in figure.curves)
    assert ("threshold" in [figure.id for figure in blocks_of(report, Figure)]) == (place == 3)
