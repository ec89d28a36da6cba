"""Mean and spread of scores over runs, against numpy's."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from qa_accel.commands import summary as summary_module

SETTINGS = {
    "model_name_or_path": "bert",
    "learning_rate": 1e-5,
    "train_file": ["/data/a/train.json"],
    "logging_steps": 10,
}


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


def test_the_interval_is_students():
    """Breaks with a normal quantile, which would make the interval of three seeds less than half as wide: t(2) is 4.303."""
    scores = summary_module.summary({str(seed): {"f1": value} for seed, value in enumerate((80.0, 81.0, 82.0))})[
        "scores"
    ]
    half = 4.302653 / np.sqrt(3)  # of a standard deviation of 1
    assert scores["f1"]["interval_95"] == pytest.approx([81 - half, 81 + half], abs=1e-5)


def test_one_run_and_copies_of_one_have_no_interval():
    """Breaks with a division by zero, or an interval of no width that claims to know the mean."""
    assert summary_module.summary({"a": {"f1": 80.0}})["scores"]["f1"]["interval_95"] is None
    assert summary_module.summary({"a": {"f1": 80.0}, "b": {"f1": 80.0}})["scores"]["f1"]["interval_95"] is None


def seed_run(folder, seed, f1=80.0, environment="1 process on CPU, bf16, torch 2.13.0", questions=100, **settings):
    folder.mkdir(parents=True)
    (folder / "all_results.json").write_text(json.dumps({"f1": f1}))
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS | {"seed": seed, "output_dir": str(folder)} | settings))
    (folder / "environment.json").write_text(json.dumps({"runs": environment}))
    (folder / "data_report.json").write_text(json.dumps({"train": {"questions": {"questions": questions}}}))
    return folder / "all_results.json"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"learning_rate": 3e-5}, "learning_rate is 1e-05 in a and 3e-05 in b"),
        ({"warmup_ratio": 0.1}, "warmup_ratio is not set in a and 0.1 in b"),
        (
            {"environment": "8 processes on CUDA, bf16, torch 2"},
            "processes and precision is 1 process on CPU, bf16 in a and 8",
        ),
        ({"questions": 99}, "number of questions of train is 100 in a and 99 in b"),
        ({"seed": 1}, "a, b have the same seed: they are not independent"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_refused_with_the_difference(other, message, tmp_path):
    """Breaks if a mean is taken over runs of two settings, which is the figure of neither."""
    results = (seed_run(tmp_path / "a", 1), seed_run(tmp_path / "b", **({"seed": 2} | other)))
    with pytest.raises(ValueError, match=message):
        summary_module.run(summary_module.SummaryConfig(results))


def test_seeds_in_other_folders_with_other_logging_are_summed_up(tmp_path, capsys):
    """Breaks if a path, or a setting without any effect on the result, counts as a difference."""
    results = (
        seed_run(tmp_path / "a", 1, 80.0),
        seed_run(tmp_path / "b", 2, 82.0, environment="1 process on CPU, bf16, torch 2.14.0", logging_steps=50),
        seed_run(tmp_path / "c", 3, 81.0, report_to=["wandb"], save_steps=7),
    )
    summary_module.run(summary_module.SummaryConfig(results))
    shown = capsys.readouterr().out
    assert "81.00" in shown and "78.52 to 83.48" in shown


def test_answers_of_models_that_differ_in_their_seed_are_summed_up(tmp_path):
    """Answers of predict.py: what the seed has changed is the model. Breaks if its name counts as a difference."""
    for name in ("a", "b"):
        results = seed_run(tmp_path / name, 0, model_name_or_path=f"runs/seed-{name}")
        settings = yaml.safe_load((results.parent / "config.yaml").read_text())
        del settings["learning_rate"]
        (results.parent / "config.yaml").write_text(yaml.safe_dump(settings))
    summary_module.run(summary_module.SummaryConfig(tuple(tmp_path.glob("*/all_results.json"))))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"seed": 2, "teacher": ["big"]},
            "teacher of the model's training is not set in answers-a and big in answers-b",
        ),
        ({"seed": 1}, "answers-a, answers-b have the same seed"),
    ],
)
def test_answers_are_compared_by_the_training_of_their_models(other, message, tmp_path):
    """Answers of models that runs here have trained. Breaks if only what predict.py was given is looked at: a mean over models with
    and without a teacher would pass for one over seeds."""
    for name, more in (("a", {"seed": 1}), ("b", other)):
        model = seed_run(tmp_path / name, **more).parent
        results = seed_run(tmp_path / f"answers-{name}", 0, model_name_or_path=str(model))
        settings = yaml.safe_load((results.parent / "config.yaml").read_text())
        del settings["learning_rate"]
        (results.parent / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match=message):
        summary_module.run(summary_module.SummaryConfig(tuple(sorted(tmp_path.glob("answers-*/all_results.json")))))


def test_a_damaged_config_is_one_message(tmp_path):
    """Breaks with a traceback of the YAML parser."""
    results = (seed_run(tmp_path / "a", 1), seed_run(tmp_path / "b", 2))
    (tmp_path / "b" / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"b/config.yaml: cannot be read as YAML"):
        summary_module.run(summary_module.SummaryConfig(results))


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
