"""Scores of named sets: each set's are what its questions alone would get, and the mean counts every set once."""

import json

import pytest

from qa_accel.commands import score
from qa_accel.evaluation.set_scores import scores_by_set
from qa_accel.evaluation.squad_scores import squad_scores

REFERENCES = {"en/1": ["Rome"], "en/2": [], "en/3": ["a b"], "de/1": ["Rom"]}
PREDICTIONS = {"en/1": "Rome", "en/2": "x", "en/3": "a c", "de/1": "Bern"}
SET_OF = {key: key[:2] for key in REFERENCES}
ODDS = {"de/1": -1.0, "en/2": 3.0, "en/1": -2.0, "en/3": -2.0}


def part(of, name):
    return {key: value for key, value in of.items() if key.startswith(name)}


def test_figures_by_hand():
    """en: Rome is right, x is wrong, "a c" shares one of the words b | c (a is an article): F1 0. de: wrong. All four count the
    same in f1 (25), each set the same in the mean ((100 / 3 + 0) / 2)."""
    found = scores_by_set(PREDICTIONS, REFERENCES, None, float("inf"), SET_OF)
    assert found["en_exact"] == pytest.approx(100 / 3) and found["de_f1"] == 0 and found["en_total"] == 3
    assert found["mean_f1"] == pytest.approx(100 / 6)
    assert found["en_NoAns_exact"] == 0 and "de_NoAns_exact" not in found and "mean_best_f1" not in found


def test_each_set_is_scored_as_it_would_be_alone():
    """With a threshold: en/2 becomes "". Breaks if the order of equal null odds, or a threshold, is that of all questions."""
    found = scores_by_set(PREDICTIONS, REFERENCES, ODDS, 2.0, SET_OF)
    for name in ("en", "de"):
        alone = squad_scores(part(PREDICTIONS, name), part(REFERENCES, name), part(ODDS, name), 2.0)
        assert {key.removeprefix(f"{name}_"): value for key, value in part(found, name).items()} == alone
    assert found["en_exact"] == pytest.approx(200 / 3) and found["mean_best_f1"] == pytest.approx(100 / 3)


def test_score_command_scores_each_set(tmp_path):
    """Two files with the same ids. Breaks if predictions are looked up without the set's name."""
    for name, answer in (("en", "Rome"), ("de", "Rom")):
        row = {
            "id": "1",
            "question": "Where?",
            "context": f"In {answer}.",
            "answers": [{"text": answer, "answer_start": 3}],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps([row]))
    (tmp_path / "predictions.json").write_text(json.dumps({"en/1": "Rome", "de/1": "Rome"}))
    files = tuple(f"{name}={tmp_path / name}.json" for name in ("en", "de"))
    found = score.scores(score.ScoreConfig(validation_file=files, predictions_file=str(tmp_path / "predictions.json")))
    assert (found["f1"], found["en_f1"], found["de_f1"], found["mean_f1"], found["total"]) == (50, 100, 0, 50, 2)
