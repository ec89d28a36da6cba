"""Thresholds on arrays against the scorer that goes by dictionaries, and against the official scorer's printed figures."""

import hashlib
import json
import math

import numpy as np
import pytest

from qa_accel.evaluation.outcomes import EXACT, F1, Outcomes, best_threshold, threshold_curve
from qa_accel.evaluation.squad_scores import squad_scores

WORDS = ["", "x", "x y", "z", "x y z w", "the", "?!", "X."]
GOLDS = [[], [], ["x"], ["x y"], ["z", "x y z"], ["the"], [" x "]]
Given = tuple[dict[str, str], dict[str, list[str]], dict[str, float]]


def random_answers(seed: int, questions: int = 80, different_odds: int = 9) -> Given:
    """Texts, gold answers and null odds, most of which tie."""
    generator = np.random.default_rng(seed)
    ids = [f"q{number}" for number in range(questions)]
    texts = {key: str(generator.choice(WORDS)) for key in ids}
    golds = {key: GOLDS[generator.integers(len(GOLDS))] for key in ids}
    odds = {key: float(generator.integers(different_odds) - 4) / 2 for key in ids}
    return texts, golds, odds


def outcomes_of(texts, golds, odds) -> Outcomes:
    return Outcomes.of(texts, odds, golds, {key: f"context {number // 3}" for number, key in enumerate(golds)})


def with_infinities(given: Given) -> Given:
    texts, golds, odds = given
    special = dict(zip(odds, (math.inf, -math.inf, 1e9, 1e9, -math.inf)))
    return texts, golds, {**odds, **special}


THRESHOLDS = (-math.inf, -3.0, -2.0, -0.25, 0.0, 0.5, 2.0, 1e9, math.inf)


@pytest.mark.parametrize("seed", range(6))
def test_scores_at_a_threshold_are_the_scorers(seed):
    """Breaks if equality with the threshold empties an answer, if "" is scored otherwise, or if infinities are compared wrongly.
    Ties, words that do not count ("the", "?!"), null odds of 1e9 and of both infinities are among the answers."""
    texts, golds, odds = with_infinities(random_answers(seed))
    outcomes = outcomes_of(texts, golds, odds)
    has_answer_Q = outcomes.has_answer_Q
    for threshold in THRESHOLDS:
        official = squad_scores(texts, golds, odds, threshold)
        scores_Q2 = outcomes.scores_at(threshold)
        for column, name in ((EXACT, "exact"), (F1, "f1")):
            assert 100 * scores_Q2[:, column].mean() == pytest.approx(official[name], abs=1e-9)
            assert 100 * scores_Q2[has_answer_Q, column].mean() == pytest.approx(official[f"HasAns_{name}"], abs=1e-9)
            assert 100 * scores_Q2[~has_answer_Q, column].mean() == pytest.approx(official[f"NoAns_{name}"], abs=1e-9)
        emptied = {key: "" if odds[key] > threshold else text for key, text in texts.items()}
        assert outcomes.predictions_at(threshold) == list(emptied.values())


def test_without_a_threshold_or_null_odds_answers_are_as_they_are():
    """Breaks if predictions that came without null odds are emptied by a threshold."""
    texts, golds, odds = random_answers(0)
    plain = squad_scores(texts, golds)
    assert 100 * outcomes_of(texts, golds, None).scores_at(0.0)[:, F1].mean() == pytest.approx(plain["f1"])
    assert 100 * outcomes_of(texts, golds, odds).scores_at(None)[:, F1].mean() == pytest.approx(plain["f1"])
    assert outcomes_of(texts, golds, odds).predictions_at(None) == list(texts.values())


@pytest.mark.parametrize(
    ("seed", "questions", "different_odds", "infinite"),
    [(0, 80, 9, False), (1, 80, 9, True), (2, 700, 100_000, False), (3, 1, 1, False), (4, 60, 1, False)],
)
def test_each_point_of_the_curve_is_what_its_threshold_scores(seed, questions, different_odds, infinite):
    """Breaks if a threshold divides equal null odds, if a point is beside its threshold, or if the curve begins with a threshold
    at which something is answered though it says that nothing is (null odds of -inf)."""
    given = random_answers(seed, questions, different_odds)
    texts, golds, odds = with_infinities(given) if infinite else given
    outcomes = outcomes_of(texts, golds, odds)
    curve = threshold_curve(outcomes, 50)
    assert len(curve["threshold"]) <= 50
    assert (np.diff(curve["threshold"]) > 0).all() and (np.diff(curve["answered"]) > 0).all()
    assert curve["threshold"][-1] == max(odds.values()) and curve["answered"][-1] == 100
    for place, threshold in enumerate(curve["threshold"]):
        official = squad_scores(texts, golds, odds, float(threshold))
        for name in ("exact", "f1", "HasAns_f1", "NoAns_exact"):
            assert (name in curve) == (name in official)
            if name in curve:
                assert curve[name][place] == pytest.approx(official[name], abs=1e-9)
        answered = sum(value <= threshold for value in odds.values())
        assert curve["answered"][place] == pytest.approx(100 * answered / len(odds))


def test_the_curve_of_one_kind_of_questions_has_no_figures_of_the_other():
    """Breaks with a division by zero where no question is unanswerable, or none is answerable."""
    answerable = outcomes_of({"a": "x", "b": "z"}, {"a": ["x"], "b": ["x"]}, {"a": 1.0, "b": -1.0})
    assert "NoAns_exact" not in threshold_curve(answerable, 200)
    assert threshold_curve(answerable, 200)["HasAns_f1"].tolist() == [0.0, 0.0, 50.0]
    unanswerable = outcomes_of({"a": "x", "b": ""}, {"a": [], "b": []}, {"a": 1.0, "b": -1.0})
    assert "HasAns_f1" not in threshold_curve(unanswerable, 200)
    assert threshold_curve(unanswerable, 200)["NoAns_exact"].tolist() == [100.0, 100.0, 50.0]


@pytest.mark.parametrize("seed", range(30))
def test_the_best_threshold_is_that_of_the_official_search(seed):
    """Breaks if ties are taken together, if the last of equal bests is taken, or if the text "the" on an unanswerable question
    costs nothing: the official search counts it as an answer, though exact match does not."""
    given = random_answers(seed, questions=5 + 10 * (seed % 5), different_odds=(3, 40, 100_000)[seed % 3])
    texts, golds, odds = with_infinities(given) if seed % 7 == 0 else given
    official = squad_scores(texts, golds, odds)
    outcomes = outcomes_of(texts, golds, odds)
    for column, name in ((EXACT, "exact"), (F1, "f1")):
        best, threshold = best_threshold(outcomes, column)
        assert 100 * best == pytest.approx(official[f"best_{name}"], rel=0, abs=1e-12)
        assert (0.0 if threshold is None else threshold) == official[f"best_{name}_thresh"]


def test_where_silence_is_best_there_is_no_threshold():
    """Breaks if 0.0 is given, as the official search has it: at 0 the wrong answer would count."""
    outcomes = outcomes_of({"a": "z", "b": "z"}, {"a": ["x"], "b": []}, {"a": -3.0, "b": -4.0})
    assert best_threshold(outcomes, F1) == (0.5, None)


@pytest.mark.parametrize("system", ["bert_single.json", "bidaf_elmo_single.json", "nlnet_single.json"])
def test_best_scores_of_published_predictions_are_what_the_official_scorer_printed(shared, system):
    """Breaks if the search over 6,078 real questions differs from the official script's own output in score or threshold."""
    published = shared / "data" / "published_predictions"
    texts = json.loads((published / system).read_text())
    dev = json.loads((shared / "data" / "squad_v2" / "dev.json").read_text())
    paragraphs = [paragraph for article in dev["data"] for paragraph in article["paragraphs"]]
    golds = {qa["id"]: [gold["text"] for gold in qa["answers"]] for each in paragraphs for qa in each["qas"]}
    contexts = {qa["id"]: each["context"] for each in paragraphs for qa in each["qas"]}
    odds = {key: int(hashlib.md5(key.encode()).hexdigest()[:8], 16) / 2**32 for key in golds}
    printed = json.loads((published / "official_scores.json").read_text())[system]["md5_no_answer_probability"]
    outcomes = Outcomes.of(texts, odds, golds, contexts)
    assert outcomes.paragraph_Q.max() + 1 == len(set(contexts.values()))
    for column, name in ((EXACT, "exact"), (F1, "f1")):
        best, threshold = best_threshold(outcomes, column)
        assert 100 * best == pytest.approx(printed[f"best_{name}"], rel=0, abs=1e-9)
        assert (0.0 if threshold is None else threshold) == printed[f"best_{name}_thresh"]
        assert 100 * outcomes.scores_at(0.5)[:, column].mean() == pytest.approx(printed[name], rel=0, abs=1e-9)


def test_questions_on_equal_contexts_are_of_one_paragraph():
    """Breaks if paragraphs count by their place in the file: two articles may have the same text."""
    golds = {key: ["x"] for key in "abcd"}
    outcomes = Outcomes.of(dict.fromkeys(golds, "x"), None, golds, {"a": "one", "b": "two", "c": "one", "d": "three"})
    assert outcomes.paragraph_Q.tolist() == [0, 1, 0, 2]
