"""CUAD's curve of precision and recall: its points worked out by hand, and against the points one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_accel.evaluation.cuad_scores import CONFIDENCES, ScoredText, cuad_scores, jaccard, matches


def scored(**confidences: float) -> list[ScoredText]:
    return [ScoredText(text.replace("_", " "), confidence) for text, confidence in confidences.items()]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Governing Law: Ohio", "governing law ohio.", 1),
        ("this Agreement and/or Annex", "Agreement or Annex", 3 / 5),  # this, agreement, and, or, annex
        ("two  blanks\nand a line", "two blanks and a line", 1),
        ("law (Ohio)", "law Ohio", 1 / 3),  # a bracket is part of the word
        (".", ":", 0),
    ],
)
def test_words_are_compared_as_sets(one, other, expected):
    assert jaccard(one, other) == pytest.approx(expected)


def test_an_answer_that_contains_a_gold_text_counts_for_parties_alone():
    """The sets of words are 2 of 6 alike. Breaks if the rule of this one category holds for all."""
    gold, text = "Acme Ltd", "between Acme Ltd and Others of Ohio"
    assert matches(gold, text, "contract 7__Parties") and not matches(gold, text, "contract 7__Governing Law")


def test_half_of_the_words_is_enough():
    assert matches("a b", "a b c d", "q") and not matches("a b", "a b c d e", "q")


def test_the_area_is_worked_out_by_hand():
    """Four gold answers; answers by confidence: right 0.95, wrong 0.85, right 0.75, right 0.55, and the fourth is never found. Points
    (recall, precision): (0, 1), (1/4, 1), (1/4, 1/2), (2/4, 2/3), (3/4, 3/4). Raised from the right: 1, 1, 3/4, 3/4, 3/4. Area: 1/4 at
    1, none between the points at 1/4, then 2/4 at 3/4: 0.625. No point has a recall of 0.8."""
    references = {"q": ["ann prem", "ben orr", "cleo dale"], "r": ["dora"], "s": []}
    predictions = {"q": scored(ann_prem=0.95, cleo_dale=0.75), "r": scored(fay=0.85), "s": []}
    predictions["q"] += scored(ben_orr=0.55)
    scores = cuad_scores(predictions, references)
    assert scores["aupr"] == pytest.approx(62.5)
    assert (scores["precision_at_80_recall"], scores["precision_at_90_recall"]) == (0, 0)


def test_precision_at_a_recall_is_that_of_the_first_point_there():
    """Five gold answers, found at 0.95 to 0.55 but for wrong ones at 0.65 and 0.45: recall 4/5 is reached with the answers above 0.6
    (4 right, 1 wrong), 1 with 5 right and 1 wrong, which raises the precision of the point before: 5/6 for both."""
    references = {"q": ["a1", "b1", "c1", "d1", "e1"]}
    found = scored(a1=0.95, b1=0.85, c1=0.75, x1=0.67, d1=0.65, e1=0.55, y1=0.45)
    scores = cuad_scores({"q": found}, references)
    assert scores["precision_at_80_recall"] == scores["precision_at_90_recall"] == pytest.approx(100 * 5 / 6)


def test_the_last_point_counts_for_the_area_alone():
    """As in the script, whose list of confidences is one shorter than that of the points. The one gold answer is found above
    confidence 0 alone."""
    scores = cuad_scores({"q": scored(ann=0.0005)}, {"q": ["ann"]})
    assert scores == {"aupr": 100, "precision_at_80_recall": 0, "precision_at_90_recall": 0}
    assert cuad_scores({"q": scored(ann=0.0015)}, {"q": ["ann"]})["precision_at_80_recall"] == 100


def test_one_answer_can_match_two_gold_answers_and_two_can_match_one():
    """By hand: "a b c" has half of the words of both gold texts and counts twice; with "a b", which matches the first again, nothing
    is added; "x" is wrong: 2 / (2 + 1). Breaks if right answers are counted in place of found gold answers."""
    references = {"q": ["a b", "b c"]}
    scores = cuad_scores({"q": scored(a_b_c=0.9, a_b=0.8, x=0.95)}, references)
    assert scores["precision_at_90_recall"] == pytest.approx(200 / 3)


def test_equal_texts_are_one_answer_with_the_last_confidence():
    """As in the script. Breaks if both are counted: precision would be 1/3."""
    found = [ScoredText("x", 0.9), ScoredText("ann", 0.5), ScoredText("x", 0.3), ScoredText("", 0.99)]
    scores = cuad_scores({"q": found}, {"q": ["ann"]})
    assert scores["precision_at_80_recall"] == 100 and scores["aupr"] == 100


def test_without_a_gold_answer_there_is_no_curve():
    assert cuad_scores({"q": scored(ann=0.5)}, {"q": []}) == {}
    assert cuad_scores({"q": []}, {"q": ["ann"]})["aupr"] == 0


@st.composite
def cases(draw) -> tuple[dict, dict]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    words = [f"{a} {b}" for a in "abc" for b in "def"]
    references = {key: list(generator.choice(words, size=generator.integers(0, 4))) for key in ("1", "2__Parties", "3")}
    predictions = {
        key: [ScoredText(str(text), float(round(generator.random(), 3))) for text in generator.choice(words, size=5)]
        for key in references
    }
    return references, predictions


@settings(max_examples=60)
@given(cases())
def test_the_curve_is_that_of_its_points_one_by_one(case):
    """Each point from scratch: the answers above its confidence, gold answers that one of them matches, answers that match none.
    Breaks if sorting replaces counting wrongly."""
    references, predictions = case
    points = [(0.0, 1.0)]
    total = sum(map(len, references.values()))
    for least in CONFIDENCES:
        right = wrong = 0
        for key, golds in references.items():
            last = {each.text: each.confidence for each in predictions[key]}
            above = [text for text, confidence in last.items() if confidence > least]
            right += sum(any(matches(gold, text, key) for text in above) for gold in golds)
            wrong += sum(not any(matches(gold, text, key) for gold in golds) for text in above)
        if total:
            points.append((right / total, right / (right + wrong) if right + wrong else 0.0))
    scores = cuad_scores(predictions, references)
    if not total:
        assert scores == {}
        return
    raised = [(recall, max(precision for _, precision in points[place:])) for place, (recall, _) in enumerate(points)]
    area = sum((r1 - r0) * (p0 + p1) / 2 for (r0, p0), (r1, p1) in itertools.pairwise(raised))
    assert scores["aupr"] == pytest.approx(100 * area)
    for percent in (80, 90):
        reached = next((p for r, p in raised[:-1] if r >= percent / 100), 0.0)
        assert scores[f"precision_at_{percent}_recall"] == pytest.approx(100 * reached)


def test_the_confidences_are_the_scripts():
    """101 of them: 0.99 to 0.01 in steps of a hundredth, then 0.001 and 0."""
    assert len(CONFIDENCES) == 101
    assert list(CONFIDENCES) == pytest.approx([*(1 - step / 100 for step in range(1, 100)), 0.001, 0])
