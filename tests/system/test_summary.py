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
