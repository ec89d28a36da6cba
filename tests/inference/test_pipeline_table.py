"""What the tests of transformers' removed `pipeline("question-answering")` asked of it, asked of `Reader`.

Each test is a row of that suite; rows that need a checkpoint of the hub are not here. Models are toys with random weights:
what is tested is shapes, errors, offsets, batches and streams. Scores are tested in test_pipeline_definition.py.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import datasets
import pytest
from given_logits import given, peaks, random_logits

from qa_accel import Reader

Q0, C0 = "Where was HuggingFace founded ?", "HuggingFace was founded in Paris."
ROW = {"question": Q0, "context": C0}
KEYS = {"score": float, "start": int, "end": int, "answer": str}


@pytest.fixture(scope="module")
def reader(toy) -> Reader:
    return Reader(toy.model)


def check(answer: Any, context: str = C0) -> None:
    """The four keys, their types, and that the answer is where it says."""
    assert type(answer) is dict and {key: type(value) for key, value in answer.items()} == KEYS
    assert answer["answer"] == context[answer["start"] : answer["end"]]
    assert 0 < answer["score"] <= 1


# ------------------------------------------------------------------------------------------------------ shapes


def test_one_question_gives_a_dictionary_of_four_keys(reader):
    """Breaks if a figure is numpy's, which json cannot write, or if a fifth key appears for a model without calibration."""
    check(reader(question=Q0, context=C0))
    check(reader(question=Q0, context=C0, handle_impossible_answer=True))


def test_forms_of_one_question_give_the_same_answer(reader):
    """Breaks if one of them is given back in a list, or another is not."""
    expected = reader(question=Q0, context=C0)
    assert reader(Q0, C0) == expected
    assert reader(ROW) == expected
    assert reader(**ROW) == expected
    assert reader([ROW]) == [expected]
    assert reader(question=[Q0], context=C0) == [expected]
    assert reader(question=[Q0], context=[C0]) == [expected]


def test_forms_of_two_questions_give_a_list_in_their_order(reader):
    """Breaks if answers come in the order of computation, by length, or a context goes to the wrong question."""
    other_question, other_context = (
        "What?",
        "Nora was born in Kyiv. The house by the river has 15 small windows. Nora keeps a parrot.",
    )
    one, other = reader(Q0, C0), reader(other_question, other_context)
    shared = reader(other_question, C0)
    assert one != other
    assert reader(question=[Q0, other_question], context=C0) == [one, shared]
    assert reader(question=[Q0, other_question], context=[C0, other_context]) == [one, other]
    assert reader(question=[other_question, Q0], context=[other_context, C0]) == [other, one]
    rows = [ROW, {"question": other_question, "context": other_context}]
    assert reader(rows) == [one, other]
    assert reader([tuple(row.values()) for row in rows]) == [one, other]


def test_top_k_gives_a_list_of_distinct_places_best_first(reader):
    """Breaks if tokens of one word are answers of their own after they were widened to the word, as in 4.53."""
    answers = reader(question=Q0, context=C0, top_k=20)
    assert type(answers) is list and len(answers) > 1
    for answer in answers:
        check(answer)
    places = [(answer["start"], answer["end"]) for answer in answers]
    assert len(set(places)) == len(places)
    scores = [answer["score"] for answer in answers]
    assert scores == sorted(scores, reverse=True)
    assert answers[0] == reader(question=Q0, context=C0)
    assert [len(each) for each in reader([ROW, ROW], top_k=3)] == [3, 3]


def test_top_k_gives_as_many_as_there_are(reader):
    """ "a b c" has six spans of words. Breaks if equal ones use up the places of others, or if a list of one is unpacked."""
    answers = reader(question=Q0, context="Ana keeps horse", top_k=50)
    assert {answer["answer"] for answer in answers} == {
        "Ana", "keeps", "horse", "Ana keeps", "keeps horse", "Ana keeps horse"
    }  # fmt: skip
    assert len(answers) == 6
    assert len(reader(question=Q0, context="Ana", top_k=50)) == 1


def test_equal_texts_at_different_places_stay_apart(reader):
    """The pipeline made one answer of them and added their scores, more than 1 in all. Breaks if ours does."""
    answers = reader(question=Q0, context="Ana Ana", top_k=3)
    assert sorted((answer["start"], answer["end"]) for answer in answers) == [(0, 3), (0, 7), (4, 7)]
    assert sum(answer["score"] for answer in answers) <= 1


def test_answers_fit_the_hubs_output_element(reader):
    """Breaks if a key is renamed: clients of the hub's API read these."""
    types = pytest.importorskip("huggingface_hub.inference._generated.types")
    for answer in reader(question=Q0, context=C0, top_k=5):
        element = types.QuestionAnsweringOutputElement.parse_obj_as_instance(answer)
        assert (element.answer, element.score) == (answer["answer"], answer["score"])
        assert (element.start, element.end) == (answer["start"], answer["end"])


@pytest.mark.parametrize(("height", "place"), [(9.0, 0), (3.0, 1), (-9.0, None)])
def test_no_answer_is_ranked_where_it_belongs(reader, height, place):
    """The best span has the logits 4 + 4, the next ones 4 + 0; "no answer" has twice its height. Breaks if it appears unasked, or
    always at one end of the list."""
    start, end = token_id(reader, "born"), token_id(reader, "Bern")
    cls = reader.qa.tokenizer.cls_token_id
    with given(reader.qa.model, peaks({cls: height, start: 4.0}, {cls: height, end: 4.0})):
        answers = reader(Q0, "Ana was born in Bern.", top_k=4, handle_impossible_answer=True)
        plain = reader(Q0, "Ana was born in Bern.", top_k=4)
    assert [answer["answer"] == "" for answer in answers] == [number == place for number in range(4)]
    if place is not None:
        assert answers[place] == {"score": answers[place]["score"], "start": 0, "end": 0, "answer": ""}
    assert all(answer["answer"] for answer in plain) and plain[0]["answer"] == "born in Bern"


def token_id(reader: Reader, token: str) -> int:
    [number] = reader.qa.tokenizer(token, add_special_tokens=False)["input_ids"]
    return number


# ------------------------------------------------------------------------------------------------------ batches and streams


def test_batch_size_changes_nothing(reader):
    """Breaks if padding takes part in a softmax or an answer: a context of several windows, another of one."""
    long = " ".join([C0] * 20)
    alone = [reader(question=Q0, context=context, batch_size=1) for context in (long, C0)]
    for size in (2, 16):
        together = reader(question=[Q0, Q0], context=[long, C0], batch_size=size)
        for found, expected in zip(together, alone):
            assert found == {**expected, "score": pytest.approx(expected["score"], abs=1e-6)}


def test_a_generator_of_ten_gives_ten(reader):
    answers = list(reader((ROW for _ in range(10)), batch_size=16))
    assert len(answers) == 10
    for answer in answers:
        check(answer)
        assert answer == {**reader(ROW), "score": pytest.approx(reader(ROW)["score"], abs=1e-6)}


def test_a_stream_is_not_read_to_its_end_before_the_first_answer(reader):
    """Breaks if the source is made a list: an endless one would never give an answer, a long one would fill memory."""
    read = 0

    def endless() -> Iterator[dict[str, str]]:
        nonlocal read
        for _ in itertools.count():
            read += 1
            yield ROW

    answers = iter(reader(endless(), batch_size=4))
    assert read <= 1, "nothing is computed before it is asked for"
    check(next(answers))
    assert 1 <= read <= 1000
    before = read
    assert len(list(itertools.islice(answers, before))) == before, "it goes on behind the first chunk"
    assert before < read <= 2 * before + 1


def test_a_stream_gives_each_answer_in_its_turn(reader):
    """Three chunks and a rest. Breaks if a chunk is given back by length, or the last, short one is dropped."""
    contexts = ["Ana keeps a goat.", "Ben was born in Lima. Ben keeps a horse.", "Tess walks."] * 30
    rows = [{"question": "Which animal?", "context": context} for context in contexts]
    expected = [reader(row)["answer"] for row in rows[:3]]
    assert len(set(expected)) == 3
    for source in ((row for row in rows), datasets.Dataset.from_list(rows), map(dict, rows)):
        assert [answer["answer"] for answer in reader(source, batch_size=8)] == expected * 30


def test_an_error_of_a_stream_names_its_row(reader):
    """Breaks if rows are counted within their chunk, or if an error of the source itself is hidden."""
    rows = (row for row in [ROW, ROW, {"question": Q0, "context": ""}])
    with pytest.raises(ValueError, match="row 2"):
        list(reader(rows, batch_size=1))
    with pytest.raises(ZeroDivisionError):
        list(reader({"question": Q0, "context": C0[: 1 // 0]} for _ in range(1)))


def test_questions_on_one_context_may_be_many(reader):
    questions = [f"Which animal does {name} keep?" for name in ("Ana", "Ben", "Cleo")]
    answers = reader(question=questions, context=C0, top_k=2)
    assert [len(each) for each in answers] == [2, 2, 2]


# ------------------------------------------------------------------------------------------------------ offsets and scores


def test_offsets_count_pythons_characters(reader):
    """Emoji are two units in UTF-16 and four bytes in UTF-8. Breaks if offsets count either."""
    context = "🤗🤗 Ana 👩‍👩‍👧 keeps 🤗 a goat."
    goat = token_id(reader, "goat")
    with given(reader.qa.model, peaks({goat: 20.0}, {goat: 20.0})):
        answer = reader(question="Which animal?", context=context)
    assert (answer["answer"], answer["start"]) == ("goat", context.index("goat"))
    for found in reader(question="Which animal?", context=context, top_k=10):
        check(found, context)


def test_huge_logits_do_not_overflow(reader):
    """Logits times a million. Breaks if exp is taken before the highest logit is subtracted."""
    table = random_logits(1)

    def huge(ids: Any, places: Any) -> Any:
        return tuple(1e6 * logits for logits in table(ids, places))

    with given(reader.qa.model, table):
        plain = reader(question=Q0, context=C0)
    with given(reader.qa.model, huge):
        answer = reader(question=Q0, context=C0)
        many = reader(question=Q0, context=C0, top_k=10, handle_impossible_answer=True)
    assert (answer["start"], answer["end"]) == (plain["start"], plain["end"])
    assert all(0 <= found["score"] <= 1 for found in [answer, *many])


def test_max_answer_len_counts_tokens(reader):
    """ "was born in Bern" has four tokens. Breaks if the limit is that of the constructor's spans, or counts words' letters."""
    context = "Ana was born in Bern."
    start, end = token_id(reader, "was"), token_id(reader, "Bern")
    with given(reader.qa.model, peaks({start: 20.0}, {end: 20.0})):
        assert reader(Q0, context, max_answer_len=4)["answer"] == "was born in Bern"
        assert reader(Q0, context, max_answer_len=3)["answer"] != "was born in Bern"
        for found in reader(Q0, context, max_answer_len=1, top_k=20):
            assert " " not in found["answer"]


def test_the_default_answer_has_at_most_fifteen_tokens(reader):
    """A sentence of sixteen tokens. Breaks if the default is that of predict.py, 30."""
    context = "Ana " + "keeps " * 13 + "a goat"
    start, end, before = token_id(reader, "Ana"), token_id(reader, "goat"), token_id(reader, "a")
    assert len(context.split()) == 16
    with given(reader.qa.model, peaks({start: 20.0}, {end: 20.0, before: 10.0})):
        assert reader(Q0, context)["answer"] == context.removesuffix(" goat")
        assert reader(Q0, context, max_answer_len=16)["answer"] == context
