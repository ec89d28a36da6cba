"""Learning curves: what the runs are, scores and forecasts of runs made by hand, and one tiny real curve by the command."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from answered_runs import question_rows, right_answers, write_answers, write_questions
from processes import call
from sweeps import Trainings
from toy import WINDOWS, flags

from qa_accel import config
from qa_accel.commands import learning_curve
from qa_accel.commands.settings.learning_curve import LearningCurveConfig
from qa_accel.data.questions import load_questions
from qa_accel.data.settings import DataConfig
from qa_accel.distributed import run_folder
from qa_accel.experiments import curve_page, curve_report, curve_runs
from qa_accel.experiments.curve_results import LearningCurve, as_dict, forecast, read_curve
from qa_accel.experiments.curve_runs import CurveRun
from qa_accel.experiments.power_law import RunNoise
from qa_accel.reporting.blocks import Figure
from qa_accel.training.settings import TrainConfig

pytest.importorskip("scipy", reason="reports need the extra report")

CONTEXTS = 40
"""Of the validation data made by hand, four questions each."""


def run_by_hand(folder: Path, questions: Path, contexts: int, wrong: int, seed: int) -> CurveRun:
    """A run on so many training contexts that has `wrong` of 160 questions wrong; which ones depends on the seed."""
    rows = json.loads(questions.read_text())["data"]
    answers = right_answers(rows)
    answerable = [row["id"] for row in rows if row["answers"]["text"]]
    for key in np.random.default_rng(seed).permutation(answerable)[:wrong]:
        answers[str(key)] = ("1903", -4.0)
    write_answers(folder, questions, answers)
    return CurveRun(1280 // contexts, seed, contexts, 4 * contexts, folder / "recipe.yaml", folder)


def curve_by_hand(folder: Path, wrong: dict[int, list[int]]) -> LearningCurve:
    """`wrong`: training contexts -> of each of its runs, how many questions are wrong."""
    folder.mkdir(exist_ok=True)
    questions = write_questions(folder / "dev.json", question_rows(CONTEXTS))
    runs = [
        run_by_hand(folder / f"{contexts}-{seed}", questions, contexts, count, seed)
        for contexts, counts in wrong.items()
        for seed, count in enumerate(counts)
    ]
    return read_curve(runs)


@pytest.fixture(scope="module")
def curve(tmp_path_factory) -> LearningCurve:
    """64, 32, 16, 8 and 4 of 160 wrong: exact is 60, 80, 90, 95 and 97.5; each doubling of the data halves the error: b = 1."""
    wrong = {80: [64], 160: [32], 320: [16], 640: [8], 1280: [4]}
    return curve_by_hand(tmp_path_factory.mktemp("curves") / "a", wrong)


def test_the_law_and_the_forecast_are_those_of_halving(curve):
    """Error 0.4 at 80 contexts, halved by each doubling: a = 32, b = 1, c = 0, and 1.25 % error at 2,560 contexts. Breaks if sizes
    are questions in one place and contexts in another, or errors are mixed up with scores."""
    exact = curve.curves["exact"]
    assert exact.means == pytest.approx([60, 80, 90, 95, 97.5])
    assert exact.fit is not None and not exact.fit.is_poor
    assert (exact.fit.a, exact.fit.b, exact.fit.c) == (
        *(pytest.approx(32, rel=0.02), pytest.approx(1, abs=0.01), pytest.approx(0, abs=1e-3)),
    )
    found = forecast(1280, exact.fit)
    assert (found.contexts, found.score) == (2560, pytest.approx(98.75, abs=0.05))
    assert found.gain == pytest.approx(1.25, abs=0.05)
    assert found.low < 98.75 < found.high <= 100 and found.gain_low <= found.gain <= found.gain_high


def test_the_page_shows_points_with_intervals_and_the_law_dashed_beyond_the_data(curve):
    """Breaks if the extrapolation looks like what was measured."""
    report = curve_page.report(curve, {"learning_rate": 1e-3, "train_file": ["/secret/train.json"]}, "python x")
    [figure] = [block for block in report.sections[1].blocks if isinstance(block, Figure)]
    inside, beyond, points = figure.curves
    assert figure.x_log and not inside.dashed and beyond.dashed
    assert max(inside.x) == 1280 and (min(beyond.x), max(beyond.x)) == (1280, 2560)
    assert list(points.x) == [80, 160, 320, 640, 1280] and points.y == pytest.approx([60, 80, 90, 95, 97.5])
    assert all(low < y < high for low, y, high in zip(points.y_low, points.y, points.y_high))
    assert all(low <= y <= high for low, y, high in zip(beyond.y_low, beyond.y, beyond.y_high))
    assert "secret" not in repr(report), "reports are passed on"
    json.dumps(as_dict(curve), allow_nan=False)


def test_two_sizes_give_points_and_no_law(tmp_path):
    """Breaks if a law of three numbers is fitted to two points."""
    found = curve_by_hand(tmp_path / "a", {640: [30], 1280: [20]})
    assert found.curves["f1"].fit is None
    assert curve_page.doubts(found, found.curves["f1"]) == ["2 sizes are too few for a curve, so nothing is fitted."]
    assert "at least 3 are needed" in curve_page.conclusion(found, found.curves["f1"])
    report = curve_page.report(found, {}, "x")
    assert json.dumps(as_dict(found)).count('"fit": null') == 2 and len(report.sections) == 3


def test_a_curve_that_does_not_fall_is_called_a_poor_fit(tmp_path):
    """Breaks if the forecast of a curve that goes up and down reads as any other."""
    found = curve_by_hand(tmp_path / "a", {160: [20], 320: [40], 640: [15], 1280: [35]})
    each = found.curves["exact"]
    assert each.fit is not None and each.fit.is_poor
    said = " ".join(curve_page.doubts(found, each))
    assert "The fit is poor" in said or "The error does not fall" in said
    assert "More data of the same kind may give nothing." in curve_page.conclusion(found, each)


def test_several_seeds_widen_the_interval_by_their_luck(tmp_path):
    """Runs of one size with 20 and 36 wrong have a deviation of 7 points. Breaks if only the mean of the runs is seen."""
    found = curve_by_hand(tmp_path / "a", {320: [40, 56], 640: [28, 44], 1280: [20, 36]})
    each = found.curves["exact"]
    assert each.means == pytest.approx([70, 77.5, 82.5]) and each.fit is not None
    assert each.fit.noise.source == "seeds" and each.fit.noise.freedom == 3
    assert 100 * each.fit.noise.deviation_S == pytest.approx([5.0] * 3), "7.07 / sqrt 2 of a mean of two"
    table = curve_page.sizes_table(found, each)
    assert [row[3] for row in table.rows] == [2, 2, 2, 0] and table.rows[0][6] == pytest.approx(7.07, abs=0.01)


def recipe_of(toy, folder: Path, **changes) -> TrainConfig:
    settings = dict(model_name_or_path=str(toy.model), train_file=[str(toy.train)], validation_file=[str(toy.dev)])
    settings |= dict(cache_dir=str(folder / "cache"), max_train_steps=4, eval_steps=2, learning_rate=1e-2, **WINDOWS)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings | changes))
    return config.parse(TrainConfig, ["--config", str(path), "--output_dir", "unused"])


def test_the_runs_have_the_recipes_settings_and_the_parts_as_data(toy, tmp_path):
    """20 contexts: 5, 10 and 20. Breaks if a limit of the recipe is applied twice, or the small part decides that every question
    has an answer."""
    recipe = recipe_of(toy, tmp_path, max_train_samples=60, train_shuffle_seed=1)
    folder = tmp_path / "curve"
    runs = curve_runs.prepare(config.changed(recipe), recipe.data, folder, (4, 2, 1), [42, 43])
    assert [(run.fraction, run.seed, run.contexts, run.questions) for run in runs] == [
        *((4, 42, 5, 15), (4, 43, 5, 15), (2, 42, 10, 30), (2, 43, 10, 30), (1, 42, 20, 60), (1, 43, 20, 60)),
    ]
    for run in runs:
        found = config.parse(TrainConfig, ["--config", str(run.recipe), "--output_dir", str(run.folder)])
        assert (found.runtime.seed, found.optim.learning_rate) == (run.seed, 1e-2)
        assert found.data.max_train_samples is None and found.data.version_2_with_negative is True
        assert found.data.validation_file == (str(toy.dev),)
        assert len(load_questions(found.data, "train")) == run.questions
    again = curve_runs.prepare(config.changed(recipe), recipe.data, folder, (4, 2, 1), [42, 43])
    assert again == runs
    other = recipe_of(toy, tmp_path, max_train_samples=60, train_shuffle_seed=1, learning_rate=1e-3)
    with pytest.raises(
        ValueError, match="its runs differ from this recipe in learning_rate; give another --output_dir"
    ):
        curve_runs.prepare(config.changed(other), other.data, folder, (4, 2, 1), [42])


def test_the_chances_are_said_for_each_metric_where_they_differ(curve):
    """F1's noise is unknown, that of exact match comes from residuals. Breaks if the first metric's line is printed for both."""
    f1, exact = curve.curves["f1"], curve.curves["exact"]
    assert f1.fit is not None and exact.fit is not None and exact.fit.noise.source == "residuals"
    unknown = replace(f1, fit=replace(f1.fit, noise=RunNoise(np.zeros(5), 0, "unknown")))
    [of_f1, of_exact] = curve_report.chances_of_all(replace(curve, curves={"f1": unknown, "exact": exact}))
    assert of_f1.startswith("F1: ") and "seeds and parts is not in them" in of_f1
    assert of_exact == f"exact match: {curve_page.chances(exact.fit)}" and "estimated from the distances" in of_exact
    same = replace(curve, curves={"f1": replace(f1, fit=exact.fit), "exact": exact})
    assert curve_report.chances_of_all(same) == [curve_page.chances(exact.fit)]


RESERVED = dict(
    overwrite_output_dir=True, push_to_hub=True, resume_from_checkpoint="x", resume_with_changed_settings=True
)


@pytest.mark.parametrize("name", RESERVED)
def test_a_setting_that_is_not_for_one_run_of_many_is_refused_before_anything_is_written(name, tmp_path):
    """Breaks if every part's model is uploaded, or each start of the command trains all runs again."""
    data = DataConfig(train_file=("nowhere.json",), validation_file=("nowhere.json",))
    with pytest.raises(ValueError, match=f"the recipe sets {name}, which cannot be set in a learning curve"):
        curve_runs.prepare({name: RESERVED[name]}, data, tmp_path / "curve", (2, 1), [42])
    assert not (tmp_path / "curve").exists()


def test_wrong_fractions_and_recipes_without_validation_are_refused(toy, tmp_path):
    with pytest.raises(ValueError, match="--fractions must be integers from 1 on, got 0"):
        LearningCurveConfig(tmp_path / "r.yaml", tmp_path, (0,))
    with pytest.raises(ValueError, match="--fractions has a part twice: 2 2"):
        LearningCurveConfig(tmp_path / "r.yaml", tmp_path, (2, 2))
    recipe = recipe_of(toy, tmp_path, validation_file=None)
    with pytest.raises(ValueError, match="has no validation questions"):
        curve_runs.prepare(config.changed(recipe), recipe.data, tmp_path / "curve", (2, 1), [42])


def command(words: list[str]) -> int:
    """What scripts/learning_curve.py does."""
    return learning_curve.run(config.parse(LearningCurveConfig, words))


def refused_command(words: list[str]) -> str:
    """The message of a command that another process's curve in this folder keeps out."""
    try:
        command(words)
    except ValueError as error:
        return str(error)
    return ""


def test_two_commands_at_once_in_one_folder_are_refused(toy, tmp_path):
    """This process has the folder. Breaks if the second command writes parts and recipes under the runs of the first."""
    recipe_of(toy, tmp_path)
    folder = tmp_path / "curve"
    folder.mkdir()
    run_folder.hold(folder)
    words = [*flags(recipe=tmp_path / "recipe.yaml", output_dir=folder, fractions=[2, 1]), "--launcher", "false"]
    [message] = call(refused_command, words, without=["ACCELERATE_DYNAMO_BACKEND"])
    assert (
        f"another run is writing {folder}: process {os.getpid()}" in message and "take another --output_dir" in message
    )
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_the_command_trains_reports_and_runs_nothing_twice(toy, tmp_path):
    """Three sizes of the toy. Breaks if the child cannot be started, the report cannot be made of its answers, or a second start
    trains again."""
    pytest.importorskip("plotly", reason="reports need the extra report")
    recipe_of(toy, tmp_path)
    folder = tmp_path / "curve"
    with Trainings(tmp_path) as trainings:
        words = flags(recipe=tmp_path / "recipe.yaml", output_dir=folder, fractions=[4, 2, 1])
        words += ["--launcher", trainings.launcher]
        assert call(command, words, without=["ACCELERATE_DYNAMO_BACKEND"]) == [0]
    found = json.loads((folder / "learning_curve.json").read_text())
    assert [size["contexts"] for size in found["sizes"]] == [5, 10, 20] and found["f1"]["fit"] is not None
    for size, [score] in zip((4, 2, 1), found["f1"]["scores"]):
        results = json.loads((folder / f"part-{size}" / "seed-42" / "all_results.json").read_text())
        assert score == pytest.approx(results["best_f1"], abs=1e-6)
    assert (folder / "learning_curve.html").stat().st_size > 4_000_000
    times = {path: path.stat().st_mtime_ns for path in folder.glob("part-*/seed-42/all_results.json")}
    words[-1] = "false"  # no training run can be started by it
    assert call(command, words, without=["ACCELERATE_DYNAMO_BACKEND"]) == [0]
    assert len(times) == 3 and all(path.stat().st_mtime_ns == time for path, time in times.items())
