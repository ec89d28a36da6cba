"""Each kind of answer by hand, and which one wins where two would fit."""

import itertools

import pytest

from qa_accel.evaluation.error_kinds import KINDS, Place, kind_of
from qa_accel.evaluation.squad_scores import exact_and_f1

CONTEXT = "The old town of Bern was built on a hill in 1191, and Bern burned in 1405."


def at(text: str, *, last: bool = False) -> Place:
    """At its first or last place in the context."""
    start = CONTEXT.rindex(text) if last else CONTEXT.index(text)
    return Place(text, start, start + len(text))


def kind(predicted: Place, *golds: Place, reachable: bool = True) -> str:
    exact, f1 = exact_and_f1(predicted.text, [gold.text for gold in golds])
    return kind_of(predicted, golds, exact=exact, f1=f1, reachable=reachable)


NOTHING = Place("")


@pytest.mark.parametrize(
    ("predicted", "golds", "expected"),
    [
        (at("1191"), [at("1191")], "right"),
        (NOTHING, [], "right"),
        (at("The old town"), [at("old town")], "right"),  # articles and case do not count
        (at("1191,"), [at("1191")], "right"),
        (at("1405"), [at("1191"), at("1405")], "right"),  # any of the gold answers
        (at("Bern", last=True), [at("Bern")], "right"),  # the text decides, not its place
        (NOTHING, [at("1191")], "missed"),
        (Place(" "), [at("1191")], "missed"),  # blanks are no answer
        (at("1191"), [], "answered_unanswerable"),
        (at("hill in 1191"), [at("1191")], "other_words"),  # F1 2 * 1/3 * 1 / (4/3) = 0.5
        (at("was built on a hill in 1191"), [at("1191")], "boundary"),  # F1 2/7: six words count, one is shared
        (at("town of Bern was built"), [at("Bern was built on a hill in 1191")], "other_words"),  # F1 6/11
        (at("Bern was"), [at("town of Bern"), at("was built on a hill in 1191")], "boundary"),
        (at("1405"), [at("1191")], "wrong_span"),
        (at("a hill"), [at("hill in 1191, and Bern burned in 1405")], "boundary"),  # F1 2/8
        (at("Bern", last=True), [at("old town of Bern was built on a hill")], "wrong_span"),  # a shared word elsewhere
    ],
)
def test_each_kind_by_hand(predicted, golds, expected):
    assert kind(predicted, *golds) == expected


@pytest.mark.parametrize(
    ("predicted", "golds", "expected"),
    [
        (at("1191"), [at("1191")], "right"),  # it was reached after all
        (at("1191"), [], "answered_unanswerable"),
        (NOTHING, [], "right"),
        (NOTHING, [at("1191")], "cut"),  # rather than missed: no answer was to be had
        (at("hill in 1191"), [at("1191")], "cut"),
        (at("1405"), [at("1191")], "cut"),
    ],
)
def test_what_could_not_be_predicted_is_cut_whatever_was_predicted_instead(predicted, golds, expected):
    """Breaks if a model is blamed for an answer that no window holds, or windows for an unanswerable question."""
    assert kind(predicted, *golds, reachable=False) == expected


def test_without_places_words_in_order_decide_whether_answers_overlap():
    """Breaks if a shared word elsewhere in the text counts as overlap, or a place of one side alone is used."""
    long = "was built on a hill in 1191"
    assert kind(Place("1191"), Place(long)) == "boundary"
    assert kind(Place(long), at("1191")) == "boundary"
    assert kind(at("1191"), Place("Built on the hill in 1191 by the duke")) == "boundary"
    assert kind(Place("hill built in"), Place(long + " by dukes of old")) == "wrong_span"  # F1 below 0.5, another order
    assert kind(Place("?"), Place(long)) == "wrong_span"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1191", Place("1191", 44, 48)),
        ("Bern", Place("Bern")),  # twice: which one is unknown
        ("Basel", Place("Basel")),
        ("", Place("")),
        ("bern was", Place("bern was")),
    ],
)
def test_a_text_has_a_place_where_the_context_has_it_once(text, expected):
    assert Place.found(text, CONTEXT) == expected


def test_a_text_that_overlaps_itself_has_no_place():
    """ "anan" in "xananan" is at 1 and at 3. Breaks if only separate places count."""
    assert Place.found("anan", "xananan") == Place("anan")


def test_places_that_touch_do_not_overlap():
    assert not Place("ab", 0, 2).overlaps(Place("cd", 2, 4))
    assert Place("ab", 0, 2).overlaps(Place("b", 1, 2)) and Place("b", 1, 2).overlaps(Place("ab", 0, 2))


def test_an_f1_of_one_half_is_not_lost_to_rounding():
    """2 s / (p + g) words is exactly 0.5 for many sizes. Breaks if one of them is computed as 0.4999."""
    for shared, predicted in itertools.product(range(1, 12), range(1, 40)):
        gold = 4 * shared - predicted
        if gold >= shared and predicted >= shared:
            words = [f"w{n}" for n in range(shared)]
            text = " ".join(words + [f"p{n}" for n in range(predicted - shared)])
            other = " ".join(words + [f"g{n}" for n in range(gold - shared)])
            if text != other:
                assert kind(Place(text), Place(other)) == "other_words", (shared, predicted, gold)


def test_every_answer_is_of_a_kind_that_has_a_name():
    """All combinations of what decides. Breaks if a kind is returned that the report cannot count."""
    places = (NOTHING, Place(" "), at("1191"), at("hill in 1191"), Place("Bern"))
    golds = ((), (at("1191"),), (at("1405"), Place("Bern")))
    for predicted, of, exact, f1, reachable in itertools.product(
        places, golds, (0.0, 1.0), (0.0, 0.49, 0.5, 1.0), (True, False)
    ):
        found = kind_of(predicted, of, exact=exact, f1=f1, reachable=reachable)
        assert found in KINDS and (found == "right") == bool(exact)
