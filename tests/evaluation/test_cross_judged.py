"""Scores of questions that neither threshold nor calibration has seen: by hand on a few contexts."""

import pytest

from qa_accel.evaluation.calibration import GoldAnswers
from qa_accel.evaluation.cross_judged import gains, judge_across
from qa_accel.inference.answer_lists import Answers


def entry(text: str, score: float) -> dict:
    return {
        "text": text,
        "probability": 0.5,
        "score": 0.5,
        "start_logit": score,
        "end_logit": 0.0,
        "start": 0,
        "end": len(text),
    }


def answers_of(found: dict[str, tuple[str, float]]) -> Answers:
    """id -> best span and null odds."""
    nbest: dict = {key: [entry(text, -odds), entry("", 0.0)] for key, (text, odds) in found.items()}
    texts = {key: text for key, (text, _) in found.items()}
    return Answers(texts, texts, {key: odds for key, (_, odds) in found.items()}, nbest)


def halves_of(contexts: int) -> tuple[list[str], list[str]]:
    """Contexts by half, as `GoldAnswers.halves` divides them."""
    names = [f"context {number}" for number in range(contexts)]
    first, second = GoldAnswers({name: [] for name in names}, {name: name for name in names}).halves()
    return list(first.texts), list(second.texts)


def test_each_half_is_judged_at_the_threshold_of_the_other():
    """One answerable question with odds of 1 and one unanswerable with odds of 2 in the first half: its best threshold is 1. In the
    second half odds are 3 and 4, and the best is 3. So the first half is judged at 3: both are answered, one wrongly; the second
    at 1: both are empty, one rightly. Breaks if a half is judged at its own threshold, where all are right."""
    first, second = halves_of(40)
    contexts, golds, found = {}, {}, {}
    for half, (low, high) in ((first, (1.0, 2.0)), (second, (3.0, 4.0))):
        for number, (odds, texts) in enumerate(((low, ["yes"]), (high, []))):
            key = f"{half[number]}-{number}"
            contexts[key], golds[key], found[key] = half[number], texts, ("yes", odds)
    judged = judge_across(answers_of(found), GoldAnswers(golds, contexts), version_2_with_negative=True)
    assert judged.thresholds == [1.0, 3.0]
    by_answer = judged.score_Q2[:, 0].tolist()
    assert judged.has_answer_Q.tolist() == [True, False, True, False]
    assert by_answer == [0.0, 1.0, 1.0, 0.0], "second half at 1, then first half at 3"
    assert judged.row()["exact"] == 50.0 and judged.confidence == {}
    assert judged.paragraph_Q.tolist() == [0, 1, 2, 3]


def test_without_unanswerable_questions_there_is_no_threshold():
    first, second = halves_of(20)
    contexts = {f"q{number}": name for number, name in enumerate([first[0], second[0]])}
    golds = {"q0": ["yes"], "q1": ["no"]}
    found = answers_of({"q0": ("yes", 100.0), "q1": ("yes", -100.0)})
    judged = judge_across(found, GoldAnswers(golds, contexts), version_2_with_negative=False)
    assert judged.row()["exact"] == 50.0 and "thresholds" not in judged.row() and "NoAns_exact" not in judged.row()


def test_questions_of_one_context_have_no_half_to_tune_on():
    """Breaks if that is an error: the threshold is then 0, and there is no interval."""
    golds, contexts = {"a": ["yes"], "b": []}, {"a": "one", "b": "one"}
    found = answers_of({"a": ("yes", -1.0), "b": ("yes", 1.0)})
    judged = judge_across(found, GoldAnswers(golds, contexts), version_2_with_negative=True)
    assert judged.row()["exact"] == 100.0 and "exact_interval" not in judged.row()
    assert 0.0 in judged.thresholds
    difference = gains(judged, [judged, judged])["exact"]
    assert difference.difference == 0.0 and difference.low is None


def test_a_gain_is_over_the_mean_of_each_question():
    """Two members, each right on another one of two contexts, and one side right on both: 100 less 50."""
    first, second = halves_of(20)
    contexts = dict(
        zip("abcdefgh", [first[0], second[0], first[1], second[1], first[2], second[2], first[3], second[3]])
    )
    golds = {key: ["yes"] for key in contexts}

    def judged(wrong: str):
        found = answers_of({key: ("no" if key in wrong else "yes", 0.0) for key in contexts})
        return judge_across(found, GoldAnswers(golds, contexts), version_2_with_negative=False)

    found = gains(judged(""), [judged("abcd"), judged("efgh")])["exact"]
    assert (found.one, found.other, found.difference) == (100.0, 50.0, 50.0)
    assert (found.low, found.high) == pytest.approx((50.0, 50.0)), "each question gains a half"
