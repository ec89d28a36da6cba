"""A folder of answers -> what its report says: read from files made by hand, so that every number is known."""

import json
import shutil

import pytest
from answered_runs import context_of, question_rows, right_answers, write_answers, write_questions

from qa_accel.evaluation.squad_scores import squad_scores
from qa_accel.reporting.judged_run import JudgedRun, judge
from qa_accel.reporting.run_data import GivenData, load_data
from qa_accel.reporting.run_files import read_run


@pytest.fixture
def rows() -> list[dict]:
    return question_rows()


@pytest.fixture
def questions(tmp_path, rows):
    return write_questions(tmp_path / "dev.json", rows)


def judged(folder) -> JudgedRun:
    files = read_run(folder)
    return judge(files, load_data(files, GivenData()))


def test_kinds_and_scores_are_those_of_the_answers_at_the_runs_threshold(tmp_path, rows, questions):
    """Breaks if the best span is judged where the threshold leaves it empty, or places are not used."""
    answers = right_answers(rows)
    answers["0-0"] = ("Oslo", -9.0)  # wrong span
    answers["0-1"] = ("in 1970.", -3.0)  # overlaps, F1 2/3
    answers["0-2"] = ("Oslo", 2.0)  # missed
    answers["0-3"] = ("1903", -1.0)  # answered the unanswerable
    answers["1-1"] = ("1903 and died in Oslo in 1970", -2.0)  # holds 1970, F1 2/7
    run = judged(write_answers(tmp_path / "run", questions, answers))
    of = {question.id: question.kind for question in run.analysis.questions}
    assert {key: of[key] for key in ("0-0", "0-1", "0-2", "0-3", "1-1", "1-0")} == {
        "0-0": "wrong_span",
        "0-1": "other_words",
        "0-2": "missed",
        "0-3": "answered_unanswerable",
        "1-1": "boundary",
        "1-0": "right",
    }
    predictions = json.loads((tmp_path / "run" / "predictions.json").read_text())
    official = squad_scores(predictions, {row["id"]: row["answers"]["text"] for row in rows})
    assert 100 * run.exact_Q.mean() == official["exact"] == 100 * 35 / 40
    assert 100 * run.f1_Q.mean() == pytest.approx(official["f1"])
    assert run.analysis.confident_and_wrong()[0].id == "0-0"
    assert run.warnings == []


def test_the_threshold_of_a_training_run_is_the_one_that_its_config_json_keeps(tmp_path, rows, questions):
    """Breaks if errors are shown at 0 while the model that people use has another threshold."""
    answers = right_answers(rows)
    answers["0-0"] = ("Lima", 1.5)
    folder = write_answers(tmp_path / "run", questions, answers, settings={"learning_rate": 1e-4})
    (folder / "config.json").write_text(json.dumps({"answer_policy": {"null_score_diff_threshold": 1.5}}))
    run = judged(folder)
    assert run.threshold == 1.5 and "config.json" in run.threshold_source
    assert run.analysis.kinds["right"] == 40, "null odds equal to the threshold still give an answer"
    shutil.rmtree(folder)
    folder = write_answers(tmp_path / "run", questions, answers)
    assert judged(folder).analysis.kinds["missed"] == 1


def test_data_where_every_question_has_an_answer_has_no_threshold(tmp_path, rows):
    """Breaks if v1.1 answers are emptied by null odds."""
    answerable = [row for row in rows if row["answers"]["text"]]
    questions = write_questions(tmp_path / "v1.json", answerable)
    answers = {key: (text, 50.0) for key, (text, _) in right_answers(answerable).items()}
    folder = write_answers(tmp_path / "run", questions, answers, threshold=100.0)
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "version_2_with_negative: false\n")
    run = judged(folder)
    assert run.threshold is None and run.analysis.kinds["right"] == 30


def test_confidences_are_the_files_own_else_those_of_the_n_best_lists(tmp_path, rows, questions):
    folder = write_answers(tmp_path / "run", questions, right_answers(rows))
    run = judged(folder)
    assert run.confidence_Q is not None and run.confidence_Q.tolist() == pytest.approx(
        [1 / (1 + 2.718281828459045**-4)] * 40
    )
    assert "not calibrated" in run.confidence_source
    (folder / "confidences.json").write_text(json.dumps({row["id"]: 0.25 for row in rows}))
    again = judged(folder)
    assert again.confidence_Q is not None and set(again.confidence_Q) == {0.25}
    assert again.confidence_source.startswith("calibrated; ")


def test_a_calibrated_run_is_judged_on_the_half_that_calibration_has_not_seen(tmp_path, rows, questions):
    """Breaks if the reliability diagram shows the questions that the calibration was fitted to."""
    policy = {"null_score_diff_threshold": 0.0, "temperature": 1.0, "null_odds_weight": 1.0, "null_odds_bias": 0.0}
    folder = write_answers(tmp_path / "run", questions, right_answers(rows), settings={"learning_rate": 1e-4})
    (folder / "config.json").write_text(json.dumps({"answer_policy": policy}))
    run = judged(folder)
    by_context = {run.data.contexts[row]: bool(unseen) for row, unseen in enumerate(run.judged_Q)}
    assert 0 < sum(run.judged_Q) < 40 and len(by_context) == 10
    assert all(by_context[run.data.contexts[row]] == unseen for row, unseen in enumerate(run.judged_Q)), (
        "whole contexts"
    )


def test_files_of_two_runs_in_one_folder_are_noticed(tmp_path, rows, questions):
    """Breaks if a report shows n-best lists beside the predictions of another run."""
    folder = write_answers(tmp_path / "run", questions, right_answers(rows))
    (folder / "all_results.json").write_text(json.dumps({"f1": 100.0, "null_score_diff_threshold": 0.0}))
    assert judged(folder).warnings == []
    predictions = json.loads((folder / "predictions.json").read_text())
    (folder / "predictions.json").write_text(json.dumps(predictions | {"0-0": "Oslo"}))
    [warning] = judged(folder).warnings
    assert warning.startswith("1 predictions are not what the n-best lists give")


def test_a_score_that_the_answers_do_not_give_any_more_is_a_warning(tmp_path, rows, questions):
    """Breaks if all_results.json is repeated although data or normalisation changed since."""
    folder = write_answers(tmp_path / "run", questions, right_answers(rows))
    stored = {"f1": 100.0, "total": 40, "null_score_diff_threshold": 0.0}
    (folder / "all_results.json").write_text(json.dumps(stored))
    assert judged(folder).warnings == []
    (folder / "all_results.json").write_text(json.dumps(stored | {"f1": 90.0}))
    [warning] = judged(folder).warnings
    assert warning.startswith("all_results.json has F1 90.00; the answers score 100.00 here")
    (folder / "all_results.json").write_text(json.dumps(stored | {"f1": 90.0, "total": 50}))
    assert judged(folder).warnings == [], "a score of more questions says nothing of these"


def test_lists_without_null_odds_give_places_and_predictions_the_answers(tmp_path, rows, questions):
    """Breaks if best spans are scored as if nothing had been left empty."""
    folder = write_answers(tmp_path / "run", questions, right_answers(rows))
    (folder / "null_odds.json").unlink()
    run = judged(folder)
    assert run.analysis.kinds["right"] == 40 and run.threshold is None and run.confidence_Q is None
    assert run.predicted[0].start == context_of(0).index("Lima")


def test_withheld_answers_are_said_without_scores_too(tmp_path, rows, questions):
    """Questions without gold answers leave no all_results.json. Breaks if 10 withheld answers count as given."""
    folder = write_answers(tmp_path / "run", questions, right_answers(rows), settings={"min_confidence": 0.9})
    predictions = json.loads((folder / "predictions.json").read_text())
    withheld = {key: "" for key in predictions if key.endswith("-0")}
    (folder / "predictions.json").write_text(json.dumps(predictions | withheld))
    [warning] = judged(folder).warnings
    assert warning.startswith("10 predictions are not what") and "--min_confidence 0.9 withheld them" in warning


def test_a_gold_answer_that_is_not_at_its_place_is_not_cut_by_windows(tmp_path, trainer):
    """Breaks if a wrong offset in the data passes for windows that are too small."""
    from toy import squad_file

    dev = squad_file(tmp_path / "dev.json", ["Tess"], "x")
    content = json.loads(dev.read_text())
    answers = [qa for part in content["data"] for p in part["paragraphs"] for qa in p["qas"] if qa["answers"]]
    for qa in answers:
        qa["answers"][0]["answer_start"] = 99_999
    dev.write_text(json.dumps(content))
    run = trainer.whole(tmp_path / "run", validation_file=dev, num_train_epochs=1)
    analysis = json.loads((run / "error_analysis.json").read_text())
    assert {kind["kind"]: kind["questions"] for kind in analysis["kinds"]}["cut"] == 0


def test_places_are_used_only_where_the_context_reads_so(tmp_path, rows, questions):
    """Breaks if marks are put where the data say something else than the answer."""
    answers = right_answers(rows)
    folder = write_answers(tmp_path / "run", questions, answers)
    nbest = json.loads((folder / "nbest_predictions.json").read_text())
    nbest["0-0"][0]["start"] += 1
    nbest["0-1"][0]["start"], nbest["0-1"][0]["end"] = 10**6, 10**6 + 4
    (folder / "nbest_predictions.json").write_text(json.dumps(nbest))
    run = judged(folder)
    assert (
        run.predicted[0].start is None
        and run.predicted[1].start is None
        and run.predicted[2].start == context_of(0).index("Oslo")
    )
    assert any(note.startswith("2 answers are not marked") for note in run.notes)


def test_predictions_alone_are_marked_where_their_text_occurs_once(tmp_path, rows, questions):
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({row["id"]: "in" if row["id"] == "0-0" else "Lima" for row in rows}))
    files = read_run(path)
    run = judge(files, load_data(files, GivenData((str(questions),), {})))
    assert run.predicted[0].start is None, '"in" is there three times'
    assert run.predicted[1].start == context_of(0).index("Lima")
    assert run.threshold is None and run.confidence_Q is None
    assert run.analysis.kinds == {"right": 9, "answered_unanswerable": 10, "wrong_span": 21} | dict.fromkeys(
        ("other_words", "boundary", "missed", "cut"), 0
    )


def test_answers_of_other_questions_are_refused(tmp_path, rows, questions):
    folder = write_answers(tmp_path / "run", questions, right_answers(rows))
    write_questions(questions, [*rows, rows[0] | {"id": "new"}])
    with pytest.raises(ValueError, match=r"1 of 41 questions of dev.json have no prediction, the first is 'new'"):
        judged(folder)
    write_questions(questions, rows[:30])
    assert judged(folder).warnings == ["10 predictions do not count: dev.json does not have their questions."]
    odds = json.loads((folder / "null_odds.json").read_text())
    del odds["3-1"]
    (folder / "null_odds.json").write_text(json.dumps(odds))
    with pytest.raises(ValueError, match=r"null_odds.json has no '3-1'"):
        judged(folder)
