"""MultiSpanQA's counts, worked out by hand, and the least score that suits them best against trying all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_accel.evaluation.multi_span_scores import best_least_score, multi_span_scores, partial_matches, text_set
from qa_accel.inference.several_answers import several_answers

GOLDS = {
    "people": ["Ana Prem", "Ben Orr", "Cleo"],
    "one": ["the river Lume"],
    "none": [],
}


def test_exact_match_is_summed_over_the_questions():
    """By hand. Predicted 3 + 1 + 1 (an empty set counts as one), gold 3 + 1 + 1. Right: "ana prem", "cleo" and, as two empty sets
    agree, "none": 3 of 5 and 3 of 5. Breaks with a mean over questions ((2/3 + 0 + 1) / 3), or if case and articles count."""
    predictions = {"people": ["ana prem.", "the Cleo", "Dora"], "one": ["river"], "none": []}
    scores = multi_span_scores(predictions, GOLDS)
    figures = [scores[f"multi_exact_{name}"] for name in ("precision", "recall", "f1")]
    assert figures == pytest.approx([60, 60, 60])


def test_precision_and_recall_are_of_unlike_numbers():
    """By hand: predicted 1 + 2 + 1, gold 3 + 1 + 1, right 1 ("ben orr") + 1 ("river lume") + 0: 2 of 4, 2 of 5, F1 4/9."""
    predictions = {"people": ["Ben Orr"], "one": ["The River Lume", "Lume"], "none": ["Ana"]}
    scores = multi_span_scores(predictions, GOLDS)
    figures = [scores[f"multi_exact_{name}"] for name in ("precision", "recall", "f1")]
    assert figures == pytest.approx([50, 40, 400 / 9])


def test_equal_texts_of_a_question_count_once():
    """Breaks if places are counted: two places of "Cleo" are one answer."""
    predictions = {"people": ["Cleo", "cleo", "the Cleo"], "one": [], "none": []}
    scores = multi_span_scores(predictions, GOLDS)
    # predicted 1 + 1 + 1, gold 5, right: "cleo" and the empty set
    assert [scores["multi_exact_precision"], scores["multi_exact_recall"]] == pytest.approx([200 / 3, 40])


def test_partial_match_is_the_longest_common_string_of_each_text():
    """By hand, in characters. "ana prem" (8) and "ana" (3): 3 of 3 of the prediction, 3 of 8 of the gold text. "ben orrs" (8) and
    "ben orr" (7): 7/8 and 7/7. "cleo" has in common with "ben orrs" one letter ("e"), with "ana" none: 1/4."""
    found = partial_matches(text_set(["Ana", "Ben Orrs"]), text_set(GOLDS["people"]))
    assert found == pytest.approx((3 / 3 + 7 / 8, 3 / 8 + 7 / 7 + 1 / 4))
    predictions = {"people": ["Ana", "Ben Orrs"], "one": ["Lume"], "none": []}
    scores = multi_span_scores(predictions, GOLDS)
    # "river lume" has 10 characters, 4 of which are "lume"; two empty sets give 1 and 1
    assert scores["multi_partial_precision"] == pytest.approx(100 * (15 / 8 + 1 + 1) / (2 + 1 + 1))
    assert scores["multi_partial_recall"] == pytest.approx(100 * (13 / 8 + 4 / 10 + 1) / (3 + 1 + 1))


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [([], [], (1, 1)), (["."], [], (1, 1)), ([], ["Ana"], (0, 0)), (["Ana"], [], (0, 0)), (["x"], ["Ana"], (0, 0))],
)
def test_no_answer_agrees_with_no_answer_alone(predicted, gold, expected):
    """A text of punctuation alone is none to the script's partial match, as here."""
    assert partial_matches(text_set(predicted), text_set(gold)) == expected


def test_of_two_hundred_characters_the_scripts_rule_for_frequent_characters_holds():
    """By hand: in a predicted text of 200 characters each of its ten letters makes up 10 %, so that no common string begins with one,
    and the gold text, which is the middle of it, is found only as far as both begin alike: not at all. One character less, and it
    is found whole. Breaks if the figure is that of a better search than the script's."""
    long, gold = "abcdefghij" * 20, "fghijabcde"
    assert partial_matches(frozenset([long]), frozenset([gold])) == (0, 0)
    assert partial_matches(frozenset([long[:-1]]), frozenset([gold])) == (10 / 199, 1)


def entry(text: str, score: float) -> dict:
    return {"text": text, "start": 0, "end": len(text), "score": score}


CANDIDATES = {
    "people": [entry("Ana Prem", 0.9), entry("Ben Orr", 0.4), entry("Dora", 0.2), entry("Cleo", 0.1)],
    "one": [entry("the river Lume", 0.4), entry("Lume", 0.05)],
    "none": [entry("Fay", 0.3)],
}


def test_the_least_score_is_the_highest_of_the_best():
    """By hand, 2 right / (predicted + gold), with gold 5 throughout. Nothing: 2 * 1 / (3 + 5). From 0.9: 2 * 2 / 8. From 0.4, both of
    that score: 2 * 4 / 9. From 0.3: 2 * 3 / 9, since "none" is no longer right. From 0.2: 2 * 3 / 10. From 0.1: 2 * 4 / 11.
    Breaks if equal scores are taken one by one, or if "no answer" is not given up where a question gets its first answer."""
    found = best_least_score(CANDIDATES, GOLDS, version_2_with_negative=True)  # type: ignore[arg-type]
    assert found.least == 0.4 and found.f1 == pytest.approx(800 / 9)


def test_where_each_question_has_an_answer_its_best_is_no_choice():
    """By hand: the best alone give "ana" (right) and "lume" (wrong): nothing that follows is right, so nothing is tuned. Breaks if the
    least score were one at which the best candidates are lost."""
    golds = {"a": ["ana"], "b": ["river"]}
    candidates = {"a": [entry("ana", 0.01), entry("x", 0.009)], "b": [entry("lume", 0.5), entry("y", 0.4)]}
    found = best_least_score(candidates, golds, version_2_with_negative=False)  # type: ignore[arg-type]
    assert found.least == 1.0 and found.f1 == pytest.approx(50)


@st.composite
def cases(draw) -> tuple[dict, dict]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    golds, candidates = {}, {}
    for key in "abcd":
        golds[key] = list(generator.choice(list("uvwxyz"), size=generator.integers(0, 4)))
        scores = sorted(generator.choice([0.1, 0.2, 0.3, 0.5, 0.8], size=generator.integers(0, 5)), reverse=True)
        candidates[key] = [entry(str(generator.choice(list("uvwxyz"))), float(score)) for score in scores]
    return golds, candidates


@settings(max_examples=200)
@given(cases(), st.booleans())
def test_the_search_is_that_of_trying_every_score(case, negative):
    """Breaks if the running counts differ from the scores of the answers that a least score leaves."""
    golds, candidates = case
    tried = {}
    for least in (2.0, *sorted({each["score"] for entries in candidates.values() for each in entries}, reverse=True)):
        texts = {
            key: [each["text"] for each in several_answers(entries, least, version_2_with_negative=negative)]
            for key, entries in candidates.items()
        }
        tried[least] = multi_span_scores(texts, golds)["multi_exact_f1"]
    found = best_least_score(candidates, golds, version_2_with_negative=negative)
    assert found.f1 == pytest.approx(max(tried.values()))
    if found.least == 1.0:
        assert found.f1 == pytest.approx(tried[2.0])
    else:
        assert found.least == next(least for least, f1 in tried.items() if f1 == pytest.approx(found.f1))
