"""Reports of real runs in a real browser: of a short training run on the quickstart, which writes one at its end, and of the
fine-tuned model on real questions."""

import json
import shutil

import pytest
from browsers import artefacts
from processes import Left
from report_checks import check_report, shown_questions, wait_for_figures
from training_runs import results_of

STEPS = 30


@pytest.fixture(scope="module")
def quickstart(trainer, repository, tmp_path_factory):
    """The quickstart's model and data: its first steps, its first 160 questions of evaluation."""
    folder = tmp_path_factory.mktemp("quickstart")
    quickstart = repository / "quickstart"
    return trainer.whole(
        folder / "run",
        model_name_or_path=quickstart / "encoder",
        train_file=quickstart / "train.json.gz",
        validation_file=quickstart / "dev.json",
        max_eval_samples=160,
        max_train_steps=STEPS,
        eval_steps=10,
        learning_rate=1e-3,
        n_best_size=20,
    )


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_report_of_a_training_run_works_offline(quickstart, opened, width, scheme):
    """Breaks if the page of a real run misses a figure, complains, or needs the network."""
    page = opened(
        (quickstart / "report.html").as_uri(),
        offline=True,
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
    )
    figures = {figure["name"] for figure in wait_for_figures(page)}
    assert figures >= {"loss", "learning-rate", "grad-norm", "windows-per-second", "evaluations", "threshold"}
    check_report(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the window"
    page.screenshot(path=artefacts() / f"quickstart-{width}-{scheme}.png", full_page=True)


def test_a_slice_is_opened_from_its_row(quickstart, opened):
    """Breaks if filters of tables and those of the explorer have other names for slices."""
    page = opened((quickstart / "report.html").as_uri(), offline=True)
    analysis = json.loads((quickstart / "error_analysis.json").read_text())
    slice_ = next(each for each in analysis["slices"] if each["family"] == "question_word")
    page.evaluate("document.querySelectorAll('details.folded').forEach((each) => { each.open = true; })")
    wanted = json.dumps({"slice": f"question_word={slice_['value']}"}).replace('"', '\\"')
    page.locator(f'button[data-filter="{wanted}"]').first.click()
    assert shown_questions(page) == slice_["questions"], "all 160 questions are embedded"


def test_a_run_ends_with_a_report_of_its_own_scores(quickstart):
    """Breaks if the report is of other answers than those in the folder."""
    analysis, results = json.loads((quickstart / "error_analysis.json").read_text()), results_of(quickstart)
    assert analysis["questions"] == results["total"] == 160
    # errors are those at the tuned threshold, which is the best one for F1
    right = next(kind["questions"] for kind in analysis["kinds"] if kind["kind"] == "right")
    assert right / 160 * 100 <= results["best_exact"] + 1e-9
    page = (quickstart / "report.html").read_text()
    assert f"{results['best_f1']:.2f}" in page
    environment = json.loads((quickstart / "environment.json").read_text())
    assert environment["cpu"] in page and environment["versions"]["torch"] in page


def test_a_report_that_fails_does_not_fail_the_run(trainer, tmp_path):
    """A folder is in the page's place. Breaks if hours of training end with an error because a page cannot be written."""
    folder = tmp_path / "run"
    (folder / "report.html").mkdir(parents=True)
    [left] = trainer(folder, num_train_epochs=1)
    assert isinstance(left, Left) and left.code == 0, left.output
    assert "no report.html: " in left.output and "python scripts/report.py" in left.output
    assert results_of(folder)["total"] > 0


def test_a_run_that_is_repeated_in_its_folder_has_a_new_report(trainer, tmp_path):
    """Breaks if --overwrite_output_dir leaves the page of the run before it until the new one ends."""
    folder = trainer.whole(tmp_path / "run", num_train_epochs=1)
    first = (folder / "report.html").read_text()
    trainer.whole(folder, "--overwrite_output_dir", num_train_epochs=1, seed=7)
    assert (folder / "report.html").read_text() != first


@pytest.mark.slow
def test_the_report_of_six_thousand_real_questions(shared, repository, tmp_path, opened):
    """Answers of the fine-tuned model to all of dev.json."""
    from launches import launched

    model, dev = shared / "models" / "minilm-squad2", shared / "data" / "squad_v2" / "dev.json"
    folder = tmp_path / "minilm-squad2"
    words = (
        "--model_name_or_path",
        model,
        "--validation_file",
        dev,
        "--output_dir",
        folder,
        "--cache_dir",
        tmp_path / "cache",
    )
    launched("predict", *words, processes=1)
    launched("report", folder, processes=1)
    assert (folder / "report.html").stat().st_size < 6_000_000
    page = opened((folder / "report.html").as_uri(), offline=True)
    check_report(page)
    shutil.copy(folder / "report.html", artefacts() / "minilm-squad2.html")
