"""What is said of two sides: the verdict's words, and which settings and thresholds are named."""

from pathlib import Path

import pytest
from answered_runs import question_rows, right_answers, write_answers, write_questions

from qa_accel.evaluation.comparison import Difference
from qa_accel.evaluation.significance import SeedDifference
from qa_accel.reporting.common_questions import common_data
from qa_accel.reporting.comparison_section import verdict
from qa_accel.reporting.comparison_sides import Side, differing_settings, threshold_note, warnings
from qa_accel.reporting.judged_run import judge
from qa_accel.reporting.run_data import GivenData, load_data
from qa_accel.reporting.run_files import read_run

SURE, UNSURE = SeedDifference(2.0, 1.0, 3.0, 0.01), SeedDifference(2.0, -1.0, 5.0, 0.2)


@pytest.mark.parametrize(
    ("low", "paragraphs", "seeds", "words"),
    [
        (1.0, 50, SURE, "a is better by 2.00 F1, more than the choice of questions and the seeds explain."),
        (-1.0, 50, SURE, "a is higher than b by 2.00 F1: more than the seeds explain, but within what the choice of"),
        (1.0, 50, UNSURE, "A difference of 2.00 F1 is within the noise of seeds (p 0.200)."),
        (1.0, 5, SURE, "A difference of 2.00 F1: too few contexts to tell"),
    ],
)
def test_better_is_said_only_where_contexts_and_seeds_agree(low, paragraphs, seeds, words):
    """Breaks if either test alone, or a few contexts, are enough to say so."""
    f1 = Difference("f1", 80.0, 78.0, low, 3.0, paragraphs, seeds)
    said = verdict(f1, Side("a", ["a1", "a2"], []), Side("b", ["b1", "b2"], []))
    assert said.startswith(words)
    assert ("better" in said) == (
        words == "a is better by 2.00 F1, more than the choice of questions and the seeds explain."
    )


@pytest.fixture
def questions(tmp_path) -> Path:
    return write_questions(tmp_path / "dev.json", question_rows(6))


def sides(*folders: list[Path]) -> list[Side]:
    found = [(files, load_data(files, GivenData())) for side in folders for files in map(read_run, side)]
    datas, _ = common_data(found, [files.name for files, _ in found])
    runs = iter([judge(files, data) for (files, _), data in zip(found, datas)])
    return [
        Side(f"side {place}", [f.name for f in side], [next(runs) for _ in side]) for place, side in enumerate(folders)
    ]


def answered(folder: Path, questions: Path, wrong: int, **settings: object) -> Path:
    """The first `wrong` questions are answered wrong."""
    right = right_answers(question_rows(6))
    return write_answers(
        folder, questions, right | {key: ("was", -4.0) for key in list(right)[:wrong]}, settings=settings
    )


def test_of_answers_the_seeds_are_in_the_models(tmp_path, questions):
    """predict.py answered by a model of each seed. Breaks if those models, or where files are, pass for other settings."""
    one, other = sides(
        *(
            [
                answered(
                    tmp_path / f"{side}{seed}", questions, 2 * wrong + seed, model_name_or_path=f"/x/{side}/{seed}"
                )
                for seed in range(2)
            ]
            for side, wrong in (("a", 1), ("b", 4))
        )
    )
    assert warnings(one, other) == []
    assert differing_settings(one, other) == [("model_name_or_path", "0 or 1", "0 or 1 (in another folder)")]


def test_only_settings_that_change_a_run_are_listed(tmp_path, questions):
    """Breaks if folders, trackers or the hub make two runs differ, or if where a file is gets shown."""
    own = {
        "output_dir": "/x/a",
        "report_to": ["wandb"],
        "hub_model_id": "lab/a",
        "stop_signals": ["SIGTERM", "SIGUSR1"],
    }
    one, other = sides(
        [answered(tmp_path / "a", questions, 1, **own, train_file=["/x/a/train.json"])],
        [answered(tmp_path / "b", questions, 2, output_dir="/x/b", train_file=["/x/b/train.json"])],
    )
    assert differing_settings(one, other) == [
        ("stop_signals", "SIGTERM SIGUSR1", "not set"),
        ("train_file", "train.json", "train.json (in another folder)"),
    ]


def test_the_threshold_that_a_model_stores_is_tuned_for_answers_too(tmp_path, questions):
    """all_results.json of predict.py has the model's threshold where none was given. Breaks if answers of two tuned models warn."""
    folders = []
    for name, threshold in (("a", 0.5), ("b", -1.0), ("given", 0.0)):
        given = {} if name == "given" else {"null_score_diff_threshold": None}
        folders.append(answered(tmp_path / name, questions, len(folders), **given))
        if name != "given":
            (folders[-1] / "all_results.json").write_text(f'{{"null_score_diff_threshold": {threshold}}}')
    one, other = sides([folders[0]], [folders[1]])
    assert warnings(one, other) == []
    assert threshold_note(one, other) == (
        "Each model has its own tuned threshold: 0.5 (used by the run) for side 0, -1 (used by the run) for side 1."
    )
    one, other = sides([folders[0]], [folders[2]])
    assert threshold_note(one, other) is None
    (warning,) = warnings(one, other)
    assert "A tuned threshold is an advantage" in warning
