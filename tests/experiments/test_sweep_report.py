"""The report of a sweep, of folders made by hand: what is best, what is said of luck, and odd sweeps without a traceback."""

import csv
import json
import math
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sample_report import IMAGE, SCRIPT
from sweep_folders import SPACE, plan, trial, usual_trials, write_sweep

from qa_accel import config
from qa_accel.commands import report as report_command
from qa_accel.commands.settings.report import ReportConfig
from qa_accel.experiments import sweep_figures, sweep_page
from qa_accel.experiments.space import Parameter
from qa_accel.experiments.sweep_report import write_sweep_report
from qa_accel.experiments.sweep_results import SweepResults, read_sweep
from qa_accel.experiments.trials import read_plan
from qa_accel.reporting.blocks import MOST_POINTS, Curve, Figure, ParallelLines, Table, Text

pytest.importorskip("plotly", reason="reports need the extra report")


def texts(folder: Path) -> str:
    """All texts of the page, the warnings first."""
    blocks = [block for section in sweep_page.report(read_sweep(folder)).sections for block in section.blocks]
    found = [block for block in blocks if isinstance(block, Text)]
    return "\n".join(block.text for block in sorted(found, key=lambda block: not block.is_warning))


def blocks_of(folder: Path, kind: type) -> list:
    blocks = [block for section in sweep_page.report(read_sweep(folder)).sections for block in section.blocks]
    return [block for block in blocks if isinstance(block, kind)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """Five trials; of the three best, run again twice each, the second one is best on average."""
    found = [
        trial(0, 70.0),
        trial(1, 80.0, params={"learning_rate": 3e-5, "num_train_epochs": 3}),
        trial(2, 79.5, params={"learning_rate": 1e-4, "num_train_epochs": 2}),
        trial(3, 60.0, "pruned", evaluations=[[10, 55.0], [20, 60.0]], reason="below the median of 70 at step 20"),
        trial(4, 79.0),
    ]
    folder = write_sweep(tmp_path_factory.mktemp("sweeps") / "mine", plan(5), found)
    write_sweep(folder, plan(5), [], {1: [78.0, 79.0], 2: [79.2, 79.6], 4: [77.0, 77.2]})
    write_sweep_report(folder)
    return folder


def test_the_best_recipe_is_that_of_the_best_mean_of_reruns_and_trains(swept):
    """Trial 1 is best in the sweep (80.0, re-runs 78.5), trial 2 by the re-runs (79.4). Breaks if the lucky one is chosen, or the
    recipe lacks a setting: it is parsed as train.py parses it."""
    from qa_accel.training.settings import TrainConfig

    text = (swept / "best.yaml").read_text()
    assert text.startswith(f"# python scripts/train.py --config {swept / 'best.yaml'}\n")
    assert "# Trial 2 of the sweep mine: f1 79.50, the best of 4 finished trials by the mean of its re-runs.\n" in text
    assert "79.20, 79.60 (mean 79.40); expect 79.3" in text
    parsed = config.parse(TrainConfig, ["--config", str(swept / "best.yaml")])
    assert (parsed.optim.learning_rate, parsed.loop.num_train_epochs, parsed.runtime.seed) == (1e-4, 2, 42)
    assert parsed.data.train_file == ("train.json",)
    assert parsed.checkpoint.output_dir == str(swept.with_name("mine-best")), "a fresh folder, not a trial's"


def test_the_table_has_every_trial_the_best_first(swept):
    """Breaks if a pruned trial, whose value is of less training, is among the finished ones."""
    rows = list(csv.reader((swept / "trials.csv").open()))
    assert rows[0][:3] == ["trial", "state", "f1"] and rows[0][-3:] == ["seconds", "starts", "reason"]
    assert [(row[0], row[1], row[2]) for row in rows[1:]] == [
        *(("1", "finished", "80.0"), ("2", "finished", "79.5"), ("4", "finished", "79.0"), ("0", "finished", "70.0")),
        ("3", "pruned", "60.0"),
    ]
    assert rows[1][3:] == ["3e-05", "", "", "3", "60.0", "1", ""]


def test_the_results_hold_the_luck_in_numbers(swept):
    """Of trial 1: 80 - 78.5 = 1.5. Squares of the re-runs 0.5, 0.08 and 0.02 over 3 degrees of freedom: s = 0.4472, t = 3.182, half
    of the interval 3.182 * 0.4472 * sqrt(3/2) = 1.743; of the best mean, 79.4, the half is 3.182 * 0.4472 / sqrt 2 = 1.006."""
    found = json.loads((swept / "results.json").read_text())
    expected = found["best"].pop("expected")
    assert 79.3 < expected["value"] < 79.4 == pytest.approx(expected["value"] + expected["optimism_of_the_mean"])
    low, high = expected["interval"]
    assert (high - low) / 2 == pytest.approx(1.006, abs=1e-3) and (low + high) / 2 == pytest.approx(expected["value"])
    assert found["best"] | {"params": 0} == {
        "trial": 2,
        "value": 79.5,
        "by": "re-runs",
        "mean_of_reruns": 79.4,
        "params": 0,
    }
    first = found["luck"]["top"][0]
    assert (first["trial"], first["difference"]) == (1, 1.5) and first["deviation"] == pytest.approx(0.7071, abs=1e-4)
    assert first["interval"] == pytest.approx([1.5 - 1.743, 1.5 + 1.743], abs=1e-3)
    assert found["luck"]["order_by_reruns"] == [2, 1, 4] and found["luck"]["order_holds"] is False
    assert found["luck"]["degrees_of_freedom"] == 3
    assert found["states"] == {"running": 0, "finished": 4, "pruned": 1, "failed": 0}
    assert found["seconds"] == 60 * 11, "five trials and six re-runs of a minute"


def test_the_page_says_by_how_much_the_best_was_lucky(swept):
    """Breaks if the page shows the lucky value alone."""
    said = texts(swept)
    assert (
        "The best trial, 1, had 80.00; its re-runs have 78.50 on average: its f1 in the sweep was 1.50 too good."
        in said
    )
    assert "-0.24 to 3.24: it may be the luck of one seed" in said
    assert "The order of the best does not hold: 1, 2, 4 in the sweep, 2, 1, 4 by the re-runs." in said
    assert "4 trials have finished, which is too few to say which parameters matter" in said
    page = (swept / "sweep.html").read_text()
    assert "79.40" in page and "mean of 2 fresh seeds" in page
    assert re.search(
        r"Expect f1 79\.3\d of trial 2 with further seeds: its re-runs have 79\.40, and the best of 3", said
    )


def test_a_value_far_beyond_its_reruns_is_called_more_than_the_luck_of_one_seed(tmp_path):
    """84 against 80.0 and 80.4: half of the interval is 4.303 * 0.2828 * sqrt(3/2) = 1.49. Breaks if the verdict is always chance."""
    reruns = {1: [80.0, 80.4], 0: [79.8, 80.2]}
    said = texts(write_sweep(tmp_path / "s", plan(2), [trial(0, 80.1), trial(1, 84.0)], reruns))
    assert "2.31 to 5.29: that is more than the luck of one seed" in said


def test_without_reruns_nothing_is_confirmed_and_the_page_warns(tmp_path):
    """Breaks if a sweep without re-runs looks as sure as one with."""
    folder = write_sweep(tmp_path / "s", plan(3), [trial(0, 70.0), trial(1, 72.0), trial(2, 71.0)])
    write_sweep_report(folder)
    assert "Nothing was confirmed" in texts(folder)
    assert "by its own value, which is lucky" in (folder / "best.yaml").read_text()
    found = json.loads((folder / "results.json").read_text())
    assert found["best"]["by"] == "value" and found["best"]["trial"] == 1 and found["luck"]["expected_optimism"] is None


def test_one_rerun_of_each_has_no_interval_and_the_page_says_so(tmp_path):
    folder = write_sweep(tmp_path / "s", plan(2), [trial(0, 70.0), trial(1, 72.0)], {1: [71.0], 0: [70.5]})
    said = texts(folder)
    assert "The spread over seeds is not known" in said and "The best of 2 re-runs is lucky, too: expect less" in said
    assert "The order of the best holds: 1, 0" in said and "whether they differ at all is not known" in said


ODD = {
    "no trial at all": [],
    "one trial": [trial(0, 70.0)],
    "one that runs": [trial(0, None, "running")],
    "all failed": [trial(n, None, "failed", reason="out of memory") for n in range(5)],
    "pruned only": [trial(n, 50.0 + n, "pruned", evaluations=[[1, 50.0 + n]]) for n in range(3)],
    "all alike": [trial(n, 70.0) for n in range(12)],
    "other parameters": [trial(n, 70.0 + n, params={"other": [n, "x"], "learning_rate": None}) for n in range(12)],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_sweeps_have_a_report(name, tmp_path):
    """Breaks with a traceback: a division by no trial, a maximum of nothing, a parameter that some lack."""
    folder = write_sweep(tmp_path / "s", plan(12), ODD[name])
    write_sweep_report(folder)
    assert (folder / "sweep.html").stat().st_size > 4_000_000
    found = json.loads((folder / "results.json").read_text())
    assert len(found["trials"]) == len(ODD[name]) == len((folder / "trials.csv").read_text().splitlines()) - 1
    assert (
        (found["best"] is not None)
        == (folder / "best.yaml").exists()
        == any(one.state == "finished" for one in ODD[name])
    )
    if name == "all failed":
        assert "5 of 5 trials failed" in texts(folder)


def test_a_value_that_is_no_number_does_not_count(tmp_path):
    """As of a model that diverged. Breaks if NaN is the best, or JSON without NaN cannot be written."""
    folder = write_sweep(tmp_path / "s", plan(3), [trial(0, 70.0), trial(1, 71.0), trial(2, None)])
    path = folder / "trial-1" / "trial.json"
    path.write_text(path.read_text().replace("71.0", "NaN"))
    write_sweep_report(folder)
    found = json.loads((folder / "results.json").read_text())
    assert found["best"]["trial"] == 0 and "2 finished trials have no f1 that is a number" in texts(folder)


def test_of_thousands_of_trials_no_curve_has_more_than_200_points(tmp_path):
    """Breaks if each trial is a dot: 5,000 of them make a page that browsers cannot hold."""
    results = SweepResults(tmp_path, plan(1500), usual_trials(1500), ())
    report = sweep_page.report(results)
    figures = [block for section in report.sections for block in section.blocks]
    curves = [curve for figure in figures if isinstance(figure, Figure) for curve in figure.curves]
    assert len(curves) > 8 and all(0 < len(curve.x) <= MOST_POINTS for curve in curves)
    [lines] = [figure for figure in figures if isinstance(figure, ParallelLines)]
    assert 150 < len(lines.lines) <= MOST_POINTS
    assert lines.lines[-1].name.startswith(f"trial {results.ranked[0].number}:"), "the best is drawn last"
    history = sweep_figures.history(results).curves[-1]
    assert history.y[-1] == results.ranked[0].value and list(history.y) == sorted(history.y)  # type: ignore[type-var]
    assert max(len(block.rows) for block in figures if isinstance(block, Table)) <= 300


def test_hostile_texts_are_text(tmp_path):
    """Breaks if a name, a choice or a reason reaches the page as markup, or best.yaml as a line of its own."""
    hostile = f"{SCRIPT}\n--output_dir /\x1b[2J{IMAGE}"
    space = (Parameter(hostile, "choice", choices=(hostile, "b")), *SPACE)
    params = [{hostile: hostile, "learning_rate": 1e-4}, {hostile: "b", "learning_rate": 1e-3}]
    trials = [trial(n, 70.0 + n, params=params[n % 2]) for n in range(12)] + [trial(12, None, "failed", reason=hostile)]
    folder = write_sweep(tmp_path / "s", plan(13, space=space, metric=hostile, fixed={hostile: hostile}), trials)
    write_sweep_report(folder)
    page = (folder / "sweep.html").read_text()
    assert page.count("<script") == page.count("</script") == 4 and "<img" not in page and "\x1b" not in page
    head = re.match(r"(#.*\n)+", (folder / "best.yaml").read_text())
    assert head is not None and len(head[0].splitlines()) == 4, "the metric's line break is written out"
    assert "\x1b" not in (folder / "trials.csv").read_text()


def test_a_sweep_that_said_maximize_is_read_as_it_was(tmp_path):
    """Former plans have a direction, which nothing could set. Breaks if their sweeps cannot be reported or gone on with, or if
    a direction that would be ignored is."""
    folder = write_sweep(tmp_path / "s", plan(1), [trial(0, 70.0)])
    assert "direction" not in (folder / "sweep.json").read_text()
    content = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps(content | {"direction": "maximize"}))
    assert read_plan(folder) == plan(1) and read_sweep(folder).best is not None
    (folder / "sweep.json").write_text(json.dumps(content | {"direction": "minimize"}))
    with pytest.raises(ValueError, match=r"sweep\.json: is not a sweep's plan"):
        read_sweep(folder)


HOLD = "import sys, time; from qa_accel.distributed.claims import Claims; c = Claims(__import__('pathlib').Path(sys.argv[1]))"
HOLD += "; c.take('report'); print('held', flush=True); time.sleep(600)"


def test_a_report_waits_for_another_one_and_reads_after_it(tmp_path, monkeypatch):
    """Another process writes the report. Breaks if this one reads the trials before its turn: it would write a report without the
    trial that ended meanwhile over the final one."""
    monkeypatch.setattr("qa_accel.experiments.sweep_report.why_not", lambda html: "not now")
    folder = write_sweep(tmp_path / "s", plan(2), [trial(0, 70.0)])
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"held\n"
            ours = threading.Thread(target=write_sweep_report, args=(folder,))
            ours.start()
            ours.join(1)
            assert ours.is_alive() and not (folder / "trials.csv").exists()
            write_sweep(folder, plan(2), [trial(1, 72.0)])
        finally:
            other.kill()
    ours.join(20)
    assert [row[0] for row in csv.reader((folder / "trials.csv").open())] == ["trial", "1", "0"]


def test_damaged_files_are_named(tmp_path):
    """Breaks with a KeyError or a ZeroDivisionError."""
    folder = write_sweep(tmp_path / "s", plan(1), [trial(0, 70.0)])
    with pytest.raises(ValueError, match="is not the folder of a sweep"):
        write_sweep_report(tmp_path)
    assert not (tmp_path / ".claims").exists(), "a folder that is no sweep's is left as it is"
    (folder / "trial-0" / "trial.json").write_text("{")
    with pytest.raises(ValueError, match=r"trial-0.trial\.json: is not JSON"):
        write_sweep_report(folder)
    for space in ([{"name": "a", "kind": "float", "low": 1, "high": 1}], [{"name": "a", "kind": "choice"}]):
        content = json.loads((folder / "sweep.json").read_text()) | {"space": space}
        (folder / "sweep.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"sweep\.json: a has neither choices nor a range of numbers"):
            write_sweep_report(folder)


def test_without_the_extra_the_table_and_the_best_recipe_are_written(tmp_path, monkeypatch, capsys):
    """Breaks if a sweep of days ends with an ImportError and without its best recipe."""
    folder = write_sweep(tmp_path / "s", plan(2), [trial(0, 70.0), trial(1, 72.0)], {1: [71.0, 72.0]})
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setattr("qa_accel.reporting.requirements.find_spec", lambda name: None)
    write_sweep_report(folder)
    assert (folder / "trials.csv").exists() and (folder / "best.yaml").exists() and not (folder / "sweep.html").exists()
    assert "no sweep.html: reports need scipy and plotly: pip install 'qa-accel[report]'" in capsys.readouterr().out


def test_places_on_the_axes_are_those_of_the_ranges():
    """1e-4 is the middle of 1e-5 to 1e-3 where powers of ten are equally far apart; 8, 16, 32 are choices. Breaks if an axis is
    linear in the learning rate, or a choice has no place of its own."""
    by_name = {parameter.name: parameter for parameter in SPACE}

    def place(name: str, value: object) -> float | None:
        return sweep_figures.place_of(by_name[name], trial(0, 1.0, params={name: value}))

    assert place("learning_rate", 1e-4) == pytest.approx(0.5) and place("learning_rate", 1.0) == 1
    assert [place("per_device_train_batch_size", size) for size in (8, 16, 32, "8")] == [0.0, 0.5, 1.0, None]
    assert place("warmup_ratio", 0.05) == 0.25 and place("warmup_ratio", "hostile") is None
    assert place("learning_rate", -1) is None and place("warmup_ratio", math.nan) is None
    ticks = sweep_figures.ticks_of(by_name["learning_rate"])
    assert sorted(ticks) == [(0.0, "1e-05"), (pytest.approx(0.5), "0.0001"), (1.0, "0.001")]
    assert [label for _, label in sweep_figures.ticks_of(by_name["num_train_epochs"])] == ["1", "2", "3", "4"]


def test_choices_come_in_the_order_of_the_space(tmp_path):
    """Breaks if batch sizes are on the axis in the order of the best trials."""
    figures = sweep_figures.by_parameter(read_sweep(write_sweep(tmp_path / "s", plan(40), usual_trials(40))))
    [sizes] = [figure for figure in figures if figure.title == "per_device_train_batch_size"]
    curve: Curve = sizes.curves[0]
    assert list(dict.fromkeys(curve.x)) == ["8", "16", "32"]
    assert figures[0].title == "learning_rate" and figures[0].x_log, "the most important one is first"


def test_the_report_command_writes_a_sweeps_page_again_and_takes_no_flags_for_it(tmp_path):
    """Breaks if a sweep's folder is taken for a run without predictions, or a flag is ignored in silence."""
    folder = write_sweep(tmp_path / "s", plan(2), [trial(0, 70.0), trial(1, 72.0)])
    report_command.run(ReportConfig((folder,)))
    assert (folder / "sweep.html").exists() and (folder / "best.yaml").exists()
    with pytest.raises(
        ValueError, match="is a sweep, whose report is written into its folder and takes no flags, got --console"
    ):
        report_command.run(ReportConfig((folder,), console=True))
