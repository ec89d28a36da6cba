"""Answers of several members -> one: worked by hand, against sums over a dictionary, and what must not change the result."""

import itertools
import math
import random
from collections import defaultdict
from typing import Any

import pytest

from qa_accel.inference import ensemble
from qa_accel.inference.answer_lists import NULL_ODDS_WITHOUT_SPAN, Answers, NBestEntry, logit_score
from qa_accel.inference.confidence import Calibration

CONTEXT = "Ada was born in Lima in 1903 and died in Oslo in 1970 at home."


def entry(text: str, score: float, start: int | None = None, pipeline_score: float = 0.5) -> NBestEntry:
    place = CONTEXT.index(text) if start is None and text else start or 0
    logits = {"start_logit": score - 1.0, "end_logit": 1.0}
    return {
        "text": text,
        "probability": 0.0,
        "score": pipeline_score,
        **logits,
        "start": place,
        "end": place + len(text),
    }


def answers_of(*questions: list[NBestEntry], null_odds: float | None = None) -> Answers:
    """`questions`: the n-best list of each, best first; the empty answer anywhere."""
    nbest: dict[str, list[NBestEntry]] = {}
    found = Answers({}, {}, {}, nbest)
    for row, entries in enumerate(questions):
        spans = [each for each in entries if each["text"]]
        empty = next((each for each in entries if not each["text"]), None)
        key = f"q{row}"
        found.best_texts[key] = spans[0]["text"] if spans else ""
        odds = null_odds if empty is None else logit_score(empty) - logit_score(spans[0]) if spans else None
        found.null_odds[key] = NULL_ODDS_WITHOUT_SPAN if odds is None else odds
        found.predictions[key] = "" if found.null_odds[key] > 0 else found.best_texts[key]
        nbest[key] = entries
    return found


def by_place(answers: Answers, key: str = "q0") -> dict[tuple[int, int], NBestEntry]:
    return {(each["start"], each["end"]): each for each in answers.nbest[key]}


def log(x: float) -> float:
    return math.log(x)


ONE = answers_of([entry("Lima", log(6)), entry("", log(4)), entry("Oslo", log(2), pipeline_score=0.25)])
OTHER = answers_of([entry("", log(9)), entry("1903", log(3)), entry("Lima", log(1), pipeline_score=0.125)])


def test_two_members_and_three_spans_by_hand():
    """Lima has 6 of 8 and 1 of 4: a mean of 1/2. Oslo 2 of 8 and none: 1/8. 1903 none and 3 of 4: 3/8. The level is
    sqrt(8 * 4), the null score sqrt(4 * 9) = 6, both as logarithms. Breaks if a member that does not list a span is left out of the
    mean, or the null score takes part in the spans' softmax."""
    found = ensemble.join([ONE, OTHER])
    level = math.sqrt(32)
    assert [each["text"] for each in found.nbest["q0"]] == ["", "Lima", "1903"], "as many spans as the longest list has"
    expected = {"Lima": level / 2, "1903": level * 3 / 8, "": 6.0}
    for each in found.nbest["q0"]:
        assert logit_score(each) == pytest.approx(log(expected[each["text"]]), abs=1e-6)
        assert each["probability"] == pytest.approx(expected[each["text"]] / sum(expected.values()), rel=1e-6)
    assert found.null_odds["q0"] == pytest.approx(log(6 / (level / 2)), abs=1e-6)
    assert (found.predictions["q0"], found.best_texts["q0"]) == ("", "Lima")
    lima, nothing = by_place(found)[(16, 20)], by_place(found)[(0, 0)]
    assert lima["score"] == pytest.approx((0.5 + 0.125) / 2) and nothing["score"] == 0.5
    assert ensemble.join([ONE, OTHER], threshold=1.0).predictions["q0"] == "Lima", "null odds are 0.75"


def test_weights_count_as_copies_of_a_member():
    """Breaks if weights reach the spans and not the null score or the level, or are not divided by their sum."""
    weighted, copies = ensemble.join([ONE, OTHER], [0.2, 0.1]), ensemble.join([ONE, ONE, OTHER])
    assert weighted.null_odds["q0"] == pytest.approx(copies.null_odds["q0"], abs=1e-6)
    for one, other in zip(weighted.nbest["q0"], copies.nbest["q0"], strict=True):
        assert one["text"] == other["text"]
        assert logit_score(one) == pytest.approx(logit_score(other), abs=1e-6)


def random_members(seed: int, count: int, questions: int = 5) -> list[Answers]:
    """Lists of up to eight of twelve places, of unequal lengths; some without any span."""
    draw = random.Random(seed)
    places = [(start, start + length) for start in range(0, 12, 3) for length in (3, 7, 11)]
    members = []
    for _ in range(count):
        listed = []
        for _ in range(questions):
            chosen = draw.sample(places, draw.choice([0, 1, 3, 8]))
            entries = [
                entry(CONTEXT[start:end], draw.gauss(0, 6), start=start, pipeline_score=draw.random())
                for start, end in chosen
            ]
            listed.append(sorted([*entries, entry("", draw.gauss(0, 6))], key=lambda each: -logit_score(each)))
        members.append(answers_of(*listed))
    return members


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_sum_of_probabilities_over_a_dictionary(seed):
    """Without logarithms, by the definition. Breaks if spans of two places are taken for one, or a sum is over the wrong members."""
    members = random_members(seed, count=3)
    found = ensemble.join(members)
    for key in members[0].nbest:
        probability: dict[tuple[int, int], float] = defaultdict(float)
        nulls, levels = [], []
        lists = [[each for each in member.nbest[key] if each["text"]] for member in members]
        speaking = [row for row, spans in enumerate(lists) if spans]
        for row in speaking or range(3):
            weights = {(each["start"], each["end"]): math.exp(logit_score(each)) for each in lists[row]}
            for place, weight in weights.items():
                probability[place] += weight / sum(weights.values()) / len(speaking)
            nulls.append(next(logit_score(each) for each in members[row].nbest[key] if not each["text"]))
            levels.append(log(sum(weights.values()) or 1.0))
        assert math.fsum(probability.values()) == pytest.approx(1.0 if speaking else 0.0)
        best = max(probability.values(), default=None)
        if best is None:
            assert found.predictions[key] == "" and found.null_odds[key] == NULL_ODDS_WITHOUT_SPAN
            continue
        odds = sum(nulls) / len(nulls) - sum(levels) / len(levels) - log(best)
        assert found.null_odds[key] == pytest.approx(odds, abs=1e-4)
        kept = sorted(probability, key=lambda place: (-round(probability[place], 9), place))[: max(map(len, lists))]
        own = by_place(found, key)
        assert set(own) == {*kept, (0, 0)}
        for place in kept:
            assert own[place]["text"] == CONTEXT[place[0] : place[1]]
            difference = logit_score(own[place]) - logit_score(own[kept[0]])
            assert difference == pytest.approx(log(probability[place] / best), abs=1e-4)


def test_the_order_of_the_members_changes_nothing():
    """To the bit. Breaks if sums round by the order of their terms, or ties keep the order of the lists."""
    members = random_members(99, count=4, questions=8)
    expected = ensemble.join(members)
    for order in itertools.permutations(members):
        assert ensemble.join(order) == expected


def test_equal_scores_are_in_the_order_of_their_places():
    one, other = answers_of([entry("Oslo", 0.0), entry("", -1.0)]), answers_of([entry("Lima", 0.0), entry("", -1.0)])
    for members in ([one, other], [other, one]):
        assert ensemble.join(members).best_texts["q0"] == "Lima"


def test_equal_texts_at_two_places_stay_two_answers():
    """Breaks if spans are joined by their text: "in" is at 13 and 21."""
    one = answers_of([entry("in", 1.0, start=13), entry("", 0.0)])
    other = answers_of([entry("in", 1.0, start=21), entry("", 0.0)])
    three = answers_of([entry("in", 1.0, start=13), entry("in", 0.5, start=21), entry("", 0.0)])
    found = by_place(ensemble.join([one, other, three]))
    assert set(found) == {(0, 0), (13, 15), (21, 23)}


@pytest.mark.parametrize("copies", [1, 3])
def test_one_member_alone_or_its_copies_give_its_answers_back(copies):
    """To the bit, scores and null odds included, so that the tuned threshold of a model holds for it."""
    [member] = random_members(7, count=1, questions=40)
    found = ensemble.join([member] * copies)
    assert found.predictions == member.predictions and found.null_odds == member.null_odds
    assert found.best_texts == member.best_texts
    for key, entries in found.nbest.items():
        own = member.nbest[key]
        assert [(each["text"], logit_score(each)) for each in entries] == [
            (each["text"], logit_score(each)) for each in own
        ]
        assert sum(each["probability"] for each in entries) == pytest.approx(1.0)


def test_without_unanswerable_questions_lists_have_spans_alone():
    """SQuAD v1.1. Breaks if a missing empty answer counts as one, or null odds of the members are lost."""
    one = answers_of([entry("Lima", 2.0), entry("Oslo", 1.0)], null_odds=-3.0)
    other = answers_of([entry("Oslo", 2.0)], null_odds=5.0)
    found = ensemble.join([one, other], version_2_with_negative=False)
    assert [each["text"] for each in found.nbest["q0"]] == ["Oslo", "Lima"]
    assert found.predictions["q0"] == "Oslo"
    p = 1 / (1 + math.e)
    assert found.nbest["q0"][0]["probability"] == pytest.approx((p + 1) / 2, rel=1e-6)
    level = (log(math.exp(2) + math.exp(1)) + 2.0) / 2
    assert found.null_odds["q0"] == pytest.approx((-1.0 + 7.0) / 2 - level - log((p + 1) / 2), abs=1e-6)
    alone = ensemble.join([one], version_2_with_negative=False)
    assert alone.null_odds == one.null_odds and alone.predictions == {"q0": "Lima"}


def test_scores_of_far_away_spans_neither_overflow_nor_vanish():
    """Breaks if probabilities are formed before their logarithms: exp(-900) is 0."""
    one = answers_of([entry("Lima", 400.0), entry("Oslo", -500.0), entry("", 0.0)])
    other = answers_of([entry("Lima", 300.0), entry("Oslo", -600.0), entry("", 0.0)])
    found = by_place(ensemble.join([one, other]))
    assert logit_score(found[(16, 20)]) == pytest.approx(350.0)
    assert logit_score(found[(41, 45)]) == pytest.approx(-550.0)


def test_confidences_are_those_of_the_ensembles_own_calibration():
    calibration = Calibration(2.0, 0.5, 0.25)
    found = ensemble.join([ONE, OTHER], calibration=calibration)
    spans = [each for each in found.nbest["q0"] if each["text"]]
    of_spans, of_empty = calibration.confidences(
        [each["text"] for each in spans], [logit_score(each) for each in spans], found.null_odds["q0"]
    )
    assert [each.get("confidence") for each in spans] == of_spans
    assert found.confidences == {"q0": of_empty}, "the prediction is no answer"


@pytest.mark.parametrize("score", [math.inf, -math.inf, math.nan])
def test_scores_that_are_not_finite_are_refused_with_the_question(score):
    with pytest.raises(ValueError, match="question 'q0': a score is not finite"):
        ensemble.join([ONE, answers_of([entry("Lima", score), entry("", 0.0)])])


def test_unlike_texts_at_one_place_are_refused():
    wrong: Any = entry("Rome", 1.0, start=16)
    with pytest.raises(ValueError, match="question 'q0': characters 16 to 20 are 'Lima' and 'Rome'"):
        ensemble.join([ONE, answers_of([wrong, entry("", 0.0)])])
