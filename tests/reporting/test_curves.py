"""A judged run -> its figures: what becomes of numbers that are infinite, extreme, missing or no numbers."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from answered_runs import question_rows, right_answers, write_answers, write_questions

from qa_accel.inference.answer_lists import NULL_ODDS_WITHOUT_SPAN
from qa_accel.reporting import curves
from qa_accel.reporting.blocks import Figure, Text
from qa_accel.reporting.judged_run import JudgedRun, judge
from qa_accel.reporting.plots import plotly_figure
from qa_accel.reporting.run_data import GivenData, load_data
from qa_accel.reporting.run_files import read_run


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> JudgedRun:
    """40 questions, right at threshold 0."""
    folder, rows = tmp_path_factory.mktemp("curves"), question_rows(10)
    files = read_run(write_answers(folder / "run", write_questions(folder / "dev.json", rows), right_answers(rows)))
    return judge(files, load_data(files, GivenData()))


def with_odds(run: JudgedRun, odds_Q: Sequence[float]) -> JudgedRun:
    return replace(run, outcomes=replace(run.outcomes, null_odds_Q=np.array(odds_Q, np.float64)))


@pytest.fixture
def run(plain) -> JudgedRun:
    """Null odds near -4 and 4, each of its own, but that every fifth question has no span."""
    odds_Q = [odds + number / 100 for number, odds in enumerate(plain.outcomes.null_odds_Q)]
    return with_odds(plain, [NULL_ODDS_WITHOUT_SPAN if n % 5 == 0 else odds for n, odds in enumerate(odds_Q)])


def threshold_figure(run: JudgedRun) -> Figure:
    [figure] = [block for block in curves.threshold(run) if isinstance(block, Figure)]
    return figure


def test_questions_without_any_span_do_not_decide_the_axis(run):
    """A fifth of the null odds is 1e9. Breaks if the curve is a line at the axis' end."""
    figure = threshold_figure(run)
    for curve in figure.curves:
        assert min(curve.x) > -5 and max(curve.x) < 5 and len(curve.x) > 20
    assert figure.marks.keys() >= {"chosen 0"}


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        (math.inf, "The chosen threshold, inf, answers every question."),
        (-math.inf, "The chosen threshold, -inf, answers no question."),
        (1e9, "The chosen threshold, 1e+09, answers every question."),
        (5e5, "The chosen threshold, 5e+05, answers 32 of 40 questions."),
    ],
)
def test_a_threshold_far_from_all_null_odds_is_put_in_words(run, threshold, said):
    """Breaks if its line has no place on the axis, or the axis has a place for it and none for the rest."""
    figure = threshold_figure(replace(run, threshold=threshold))
    assert said in figure.note and not [label for label in figure.marks if label.startswith("chosen")]
    assert max(figure.curves[0].x) < 5 and len(figure.curves[0].x) > 20
    shapes = plotly_figure(figure)["layout"]["shapes"]
    assert len(shapes) == len(figure.marks) and all(shape["x0"] is not None for shape in shapes)


def test_without_any_span_there_is_a_sentence_in_place_of_the_figure(plain):
    """Breaks if the quantiles of no numbers, or a curve without points, end in a traceback."""
    blocks = curves.threshold(with_odds(plain, [NULL_ODDS_WITHOUT_SPAN] * 40))
    assert [type(block) for block in blocks] == [Text, Text]
    assert "The chosen threshold, 0, answers no question." in blocks[1].text


@pytest.mark.parametrize(("low", "high"), [(5.0, 6.0), (3.0, 3.0)])
def test_two_distinct_null_odds_make_a_curve(plain, low, high):
    """Breaks if both are outside of the quantiles between them, so that no point is left."""
    assert {*threshold_figure(with_odds(plain, [low, high] * 20)).curves[0].x} >= {low, high}


def test_values_that_are_no_numbers_are_gaps_or_counted():
    """Of 6 steps, one loss is infinite and one a text; the gradient norm was measured once. Breaks if a run that diverged looks
    like one that did not, or its report ends in a traceback."""
    losses = [4.0, math.inf, 2.0, "nan", 1.0, 1.0]
    metrics = [{"step": n + 1, "loss": loss, "grad_norm": 1.0 if n == 0 else None} for n, loss in enumerate(losses)]
    metrics += [
        {"step": 2, "eval_f1": None, "eval_exact": 10.0},
        {"step": 4, "eval_f1": "70", "eval_exact": 20.0},
        {"step": 6, "eval_f1": 55.5, "eval_exact": math.nan},
        {"step": None, "eval_f1": 99.0},
    ]
    loss, norm, evaluations = curves.training(metrics)
    assert isinstance(loss, Figure) and isinstance(norm, Figure) and isinstance(evaluations, Figure)
    assert loss.curves[0].x == [1, 3, 5, 6]
    assert "2 of 6 steps are left out: their value is no finite number." in loss.note
    assert norm.note == "Before clipping."
    assert {curve.name: curve.y for curve in evaluations.curves} == {
        "F1": [None, None, 55.5],
        "exact match": [10.0, 20.0, None],
    }
    assert evaluations.note == "3 evaluations; the highest F1, 55.50, is that of step 6."


def test_a_run_without_a_finite_loss_says_so():
    [said] = curves.training([{"step": n, "loss": math.nan} for n in range(1, 4)])
    assert said == Text("Loss: no value of 3 steps is a finite number.", is_warning=True)


@pytest.mark.parametrize(
    ("steps", "said"), [(200, ""), (400, "the mean of 2 steps"), (401, "the mean of up to 3 steps")]
)
def test_the_steps_of_a_point_are_counted_rightly(steps, said):
    """401 steps in 200 points: one point has three. Breaks if all are said to have as many as the largest."""
    [figure] = curves.training([{"step": n, "loss": 1.0} for n in range(1, steps + 1)])
    assert isinstance(figure, Figure)
    assert said in figure.note and ("Each point" in figure.note) == bool(said)
