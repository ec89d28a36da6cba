"""Mean and spread of scores over runs, against numpy's."""

import json
import subprocess
import sys

import numpy as np
import pytest

from qa_accel.commands import summary as summary_module


def test_mean_and_spread_are_numpys_and_those_of_a_sample():
    """Breaks if the deviation is that of a whole population, which is too small for a few seeds."""
    f1 = [81.5, 80.25, 83.0]
    summed = summary_module.summary({f"seed-{seed}": {"f1": value, "steps": 9} for seed, value in enumerate(f1)})
    assert summed["runs"] == ["seed-0", "seed-1", "seed-2"]
    assert list(summed["scores"]) == ["f1"]
    scores = summed["scores"]["f1"]
    assert scores["mean"] == pytest.approx(np.mean(f1)) and scores["std"] == pytest.approx(np.std(f1, ddof=1))
    assert scores["standard_error"] == pytest.approx(np.std(f1, ddof=1) / np.sqrt(3))
    assert (scores["min"], scores["max"], scores["values"]) == (80.25, 83.0, f1)


def test_a_single_run_has_no_spread_and_a_score_that_not_all_have_is_left_out():
    summed = summary_module.summary({"a": {"f1": 1.0, "exact": 2.0}})
    assert summed["scores"]["f1"]["std"] is None
    assert list(summary_module.summary({"a": {"f1": 1.0, "exact": 2.0}, "b": {"f1": 1.0}})["scores"]) == ["f1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"f1": 80.5, "exact": "x"}', r"exact is 'x' \(str\); a number from 0 to 100 is expected"),
        ('{"f1": 80.5, "best_f1": null}', r"best_f1 is null or missing"),
        ('{"f1": true}', r"f1 is 'True' \(bool\)"),
        ('{"f1": NaN}', r"f1 is 'nan'"),
        ('{"f1": Infinity}', r"f1 is 'inf'"),
        ('{"f1": 1' + "0" * 400 + "}", r"f1 is '10{39}'\.\.\. "),
        ('{"f1": 1' + "0" * 5000 + "}", r"is not JSON \(an integer has thousands of digits\)"),
        ("[" * 100_000, r"is not JSON \(nested too deep\)"),
        ('{"f1": ', r"is not JSON \(Expecting value"),
        ("[]", r"has no scores; give the runs a --validation_file"),
    ],
)
def test_results_without_usable_scores_are_refused_by_name(content, message, tmp_path):
    """Breaks with a TypeError, an OverflowError or a RecursionError, or with a mean of what is no number."""
    (tmp_path / "all_results.json").write_text(content)
    with pytest.raises(ValueError, match=f"all_results.json: {message}"):
        summary_module.read_scores(tmp_path / "all_results.json")


def test_two_runs_of_one_name_are_not_counted_as_one(tmp_path):
    """Breaks if results are kept by their folder's name: of a/seed-1 and b/seed-1 only one would be in the mean."""
    for folder in ("a", "b"):
        (tmp_path / folder / "seed-1").mkdir(parents=True)
        (tmp_path / folder / "seed-1" / "all_results.json").write_text('{"f1": 80.0}')
    paths = tuple(tmp_path / folder / "seed-1" / "all_results.json" for folder in ("a", "b"))
    with pytest.raises(ValueError, match="several results are of a run named seed-1; give each run once"):
        summary_module.run(summary_module.SummaryConfig(paths))


def test_the_script_writes_what_it_shows_and_refuses_other_files(tmp_path, repository):
    """Breaks if runs lose their names, or an unfinished run counts as one without scores."""
    for seed, f1 in ((1, 10.0), (2, 20.0)):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}" / "all_results.json").write_text(json.dumps({"f1": f1, "exact": f1}))
    (tmp_path / "none.json").write_text("{}")
    command = [sys.executable, str(repository / "scripts" / "summary.py")]
    results = [str(path) for path in sorted(tmp_path.glob("seed-*/all_results.json"))]
    summary = tmp_path / "summary.json"
    shown = subprocess.run([*command, *results, "--output_file", summary], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "15.00" in shown.stdout and "7.07" in shown.stdout
    assert json.loads(summary.read_text())["runs"] == ["seed-1", "seed-2"]
    refused = subprocess.run([*command, *results, str(tmp_path / "none.json")], capture_output=True, text=True)
    assert refused.returncode == 2 and "has no scores" in refused.stderr
