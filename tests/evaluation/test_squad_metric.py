"""The `evaluate.Metric` around the scorer: its input form, batches, and what it leaves on the disk."""

import evaluate
import pytest

from qa_accel.evaluation.squad_metric import SquadMetric
from qa_accel.evaluation.squad_scores import squad_scores


def prediction(key: str, text: str, no_answer: float = 0.0) -> dict:
    return {"id": key, "prediction_text": text, "no_answer_probability": no_answer}


def reference(key: str, *texts: str) -> dict:
    return {"id": key, "answers": {"text": list(texts), "answer_start": [0] * len(texts)}}


PREDICTIONS = [prediction("capital", "Paris", -2.5), prediction("king", "Louis", 3.25), prediction("river", "", 7.0)]
REFERENCES = [reference("capital", "Paris", "Paris"), reference("king"), reference("river", "Seine")]


def test_it_gives_the_scorers_figures_and_needs_no_network():
    """The suite runs with HF_HUB_OFFLINE=1. Breaks if the metric loads code from a hub, or changes a value on its way."""
    assert isinstance(SquadMetric(), evaluate.Metric)
    found = SquadMetric().compute(predictions=PREDICTIONS, references=REFERENCES, no_answer_threshold=0.0)
    assert found == squad_scores(
        {"capital": "Paris", "king": "Louis", "river": ""},
        {"capital": ["Paris", "Paris"], "king": [], "river": ["Seine"]},
        {"capital": -2.5, "king": 3.25, "river": 7.0},
        0.0,
    )
    assert found["NoAns_exact"] == 100.0, "null odds of 3.25 are above the threshold"


def test_questions_are_matched_by_id_and_not_by_order():
    backwards = SquadMetric().compute(predictions=PREDICTIONS, references=REFERENCES[::-1])
    assert backwards == SquadMetric().compute(predictions=PREDICTIONS, references=REFERENCES)


def test_batches_add_up_to_one_figure():
    """Breaks if each batch, or what `compute` is given after batches, were scored by itself, or a second use of the
    metric still held the first one's questions."""
    metric, at_once = SquadMetric(), SquadMetric().compute(predictions=PREDICTIONS, references=REFERENCES)
    for row in range(3):
        metric.add_batch(predictions=PREDICTIONS[row : row + 1], references=REFERENCES[row : row + 1])
    assert metric.compute() == at_once
    metric.add_batch(predictions=PREDICTIONS[:2], references=REFERENCES[:2])
    assert metric.compute(predictions=PREDICTIONS[2:], references=REFERENCES[2:]) == at_once


def test_rows_of_another_form_are_refused_with_the_form_that_is_expected():
    """Breaks if the way past Arrow, which checks types, let a KeyError out."""
    for wrong in ([{"id": "capital", "text": "Paris"}], ["Paris"]):
        with pytest.raises(ValueError, match="no_answer_probability"):
            SquadMetric().compute(predictions=wrong, references=REFERENCES[:1])


def test_a_threshold_is_found_to_the_last_bit():
    """Breaks with the hub metric's float32: 0.1 would come back as 0.10000000149."""
    metric = SquadMetric()
    metric.add(prediction=prediction("capital", "Paris", 0.1), reference=REFERENCES[0])
    assert metric.compute()["best_f1_thresh"] == 0.1


def test_by_default_probabilities_leave_the_texts_alone():
    """As with the hub's metric, whose threshold is 1.0 too."""
    certain = [prediction("capital", "Paris", 1.0)]
    assert SquadMetric().compute(predictions=certain, references=REFERENCES[:1])["exact"] == 100.0


def test_a_question_that_comes_twice_is_refused_and_the_metric_goes_on():
    """Breaks if the last of two predictions won in silence, or the refused ones were still there afterwards."""
    metric = SquadMetric()
    with pytest.raises(ValueError, match="predictions: id 'capital' comes 2 times"):
        metric.compute(predictions=PREDICTIONS[:1] * 2, references=REFERENCES[:2])
    with pytest.raises(ValueError, match="references: id 'king' comes 2 times"):
        metric.compute(predictions=PREDICTIONS[:2], references=[REFERENCES[1]] * 2)
    assert metric.compute(predictions=PREDICTIONS, references=REFERENCES)["total"] == 3


def test_nothing_is_left_on_the_disk(tmp_path, monkeypatch):
    """Breaks if a cache folder or a lock file appears in the user's home, or outlives the metric if one is requested."""
    home, requested = tmp_path / "home", tmp_path / "requested"
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(home))
    for metric in (SquadMetric(), SquadMetric(keep_in_memory=False, cache_dir=str(requested))):
        metric.add_batch(predictions=PREDICTIONS, references=REFERENCES)
        assert metric.compute()["total"] == 3
    assert not home.exists()
    assert requested.exists() and not list(requested.rglob("*.arrow"))
