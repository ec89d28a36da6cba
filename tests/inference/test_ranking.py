"""N-best lists of several documents -> one ranking: order, limits, overlaps, equal texts, and the passage around an answer."""

import random
from typing import Any

import pytest

from qa_accel.inference.postprocess import NBestEntry
from qa_accel.inference.ranking import RankSettings, passage, ranked_answers

TEXTS = ["Lima is the capital of Peru.", "Quito, Lima and La Paz", "no city here"]


def entry(document: int, text: str, score: float) -> NBestEntry:
    start = TEXTS[document].index(text) if text else 0
    return NBestEntry(
        text=text,
        probability=0.0,
        score=0.5,
        start_logit=score,
        end_logit=0.0,
        start=start,
        end=start + len(text),
    )


NBEST = [
    [entry(0, "Lima", 9), entry(0, "", 8), entry(0, "Lima is the capital", 4), entry(0, "Peru", 3)],
    [entry(1, "Lima", 7), entry(1, "Quito", 6), entry(1, "Quito, Lima", 5), entry(1, "", 0)],
    [entry(2, "", 10), entry(2, "no city", 1)],
]


def ranked(**settings: Any) -> list[tuple[Any, str]]:
    defaults = dict(top_k=10, top_k_per_document=None, remove_overlaps=False, merge_equal_texts=False, passage_size=0)
    answers = ranked_answers(["a", "b", "c"], TEXTS, NBEST, RankSettings(**(defaults | settings)))
    for answer in answers:
        text = TEXTS["abc".index(answer["document"])]
        assert text[answer["start"] : answer["end"]] == answer["text"] == answer["passage"]
    return [(answer["document"], answer["text"]) for answer in answers]


def test_spans_of_all_documents_are_in_one_order_and_no_empty_answer_is_among_them():
    expected = [("a", "Lima"), ("b", "Lima"), ("b", "Quito"), ("b", "Quito, Lima"), ("a", "Lima is the capital")]
    assert ranked() == [*expected, ("a", "Peru"), ("c", "no city")]
    assert ranked(top_k=2) == expected[:2]


def test_each_document_gives_at_most_so_many():
    assert ranked(top_k_per_document=1) == [("a", "Lima"), ("b", "Lima"), ("c", "no city")]


def test_of_overlapping_spans_of_one_document_the_best_is_left():
    """ "Quito, Lima" overlaps two better ones; "Lima" of another document overlaps nothing."""
    expected = [("a", "Lima"), ("b", "Lima"), ("b", "Quito"), ("a", "Peru"), ("c", "no city")]
    assert ranked(remove_overlaps=True) == expected
    assert ranked(remove_overlaps=True, top_k_per_document=2, top_k=4) == expected[:4]


def test_equal_texts_are_one_answer_that_names_the_other_places():
    """Breaks if merging happens after the list was cut: then fewer than top_k would come back."""
    settings = RankSettings(3, None, True, True, 0)
    answers = ranked_answers(["a", "b", "c"], TEXTS, NBEST, settings)
    assert [answer["text"] for answer in answers] == ["Lima", "Quito", "Peru"]
    assert answers[0]["also"] == [{"document": "b", "start": 7, "end": 11}] and answers[1]["also"] == []


def test_texts_that_differ_in_case_and_blanks_are_equal():
    texts = ["New  York", "new york"]
    nbest = [
        [NBestEntry(text=text, probability=0, score=0, start_logit=0, end_logit=0, start=0, end=len(text))]
        for text in texts
    ]
    [answer] = ranked_answers([7, 8], texts, nbest, RankSettings(5, None, False, True, 0))
    assert answer["document"] == 7 and answer["also"] == [{"document": 8, "start": 0, "end": 8}]


@pytest.mark.parametrize(
    ("text", "answer", "size", "expected"),
    [
        ("one two three four five", "three", 13, "two three"),  # 13 characters "wo three four", less the cut words
        ("one two three four five", "three", 15, "two three four"),
        ("one two three four five", "one", 9, "one two"),
        ("one two three four five", "five", 9, "four five"),
        ("one two three four five", "three", 2, "three"),
        ("one two three four five", "three", 500, "one two three four five"),
        ("aaaaaaaaaaXaaaaaaaaaa", "X", 5, "aaXaa"),
        (" \n one two \n ", "one", 100, "one two"),
    ],
)
def test_the_passage_is_the_text_around_the_answer_from_blank_to_blank(text, answer, size, expected):
    start = text.index(answer)
    first, last = passage(text, start, start + len(answer), size)
    assert text[first:last] == expected


def test_every_passage_holds_its_answer_and_is_not_longer_than_asked():
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choice("ab  \n") for _ in range(rng.randint(1, 40)))
        start = rng.randrange(len(text))
        end = rng.randint(start + 1, len(text))
        size = rng.randint(0, 50)
        first, last = passage(text, start, end, size)
        assert 0 <= first <= start and end <= last <= len(text)
        assert last - first <= max(size, end - start)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(top_k=0), "top_k is '0' .*at least 1"),
        (dict(top_k=True), "top_k is 'True' .*at least 1"),
        (dict(top_k=None), "top_k is null or missing; expected"),
        (dict(top_k_per_document=1.5), "top_k_per_document is '1.5'"),
        (dict(passage_size=-1), "passage_size is '-1' .*at least 0"),
        (dict(remove_overlaps="yes"), "remove_overlaps is 'yes' .*expected True or False"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        ranked(**settings)
