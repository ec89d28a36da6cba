"""Errors that transformers' removed `pipeline("question-answering")` raised, and `Reader` raises: rows of its test table."""

from collections.abc import Callable
from typing import Any

import pytest

from qa_accel import Reader

Q0, C0 = "Where was HuggingFace founded ?", "HuggingFace was founded in Paris."
ROW = {"question": Q0, "context": C0}


@pytest.fixture(scope="module")
def reader(toy) -> Reader:
    return Reader(toy.model)


EMPTY = [pytest.param("", id="empty"), pytest.param(None, id="none")]


FORMS: dict[str, Callable[[Reader, Any, Any], Any]] = {
    "keywords": lambda reader, question, context: reader(question=question, context=context),
    "positions": lambda reader, question, context: reader(question, context),
    "mapping": lambda reader, question, context: reader({"question": question, "context": context}),
    "mappings": lambda reader, question, context: reader([{"question": question, "context": context}]),
    "second mapping": lambda reader, question, context: reader([ROW, {"question": question, "context": context}]),
    "second pair": lambda reader, question, context: reader([(Q0, C0), (question, context)]),
    "lists": lambda reader, question, context: reader(question=[question], context=[context]),
    "second of lists": lambda reader, question, context: reader(question=[Q0, question], context=[C0, context]),
    "second of a stream": lambda reader, question, context: list(
        reader(row for row in [ROW, {"question": question, "context": context}])
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", EMPTY)
def test_an_empty_or_missing_text_is_refused_in_every_form(reader, form, bad):
    """Breaks if one form reaches the tokenizer, which makes a window of no text."""
    with pytest.raises(ValueError, match="question"):
        FORMS[form](reader, bad, C0)
    with pytest.raises(ValueError, match="context"):
        FORMS[form](reader, Q0, bad)


@pytest.mark.parametrize("bad", EMPTY)
def test_an_empty_or_missing_text_beside_a_shared_one_is_refused(reader, bad):
    for arguments in (
        {"question": [Q0, bad], "context": C0},
        {"question": [Q0, Q0], "context": bad},
        {"question": bad, "context": [C0]},
    ):
        with pytest.raises(ValueError, match=r"question|context"):
            reader(**arguments)


@pytest.mark.parametrize("row", [{"context": C0}, {"question": Q0}], ids=["question", "context"])
def test_a_missing_key_is_a_key_error(reader, row):
    """Breaks if `get` makes a missing key a missing text: callers that catch KeyError are in the field."""
    for form in (
        lambda: reader(row),
        lambda: reader([row]),
        lambda: reader([ROW, row]),
        lambda: list(reader(iter([row]))),
    ):
        with pytest.raises(KeyError, match="question" if "context" in row else "context"):
            form()


@pytest.mark.parametrize(
    "arguments",
    [
        {"question": {"question": Q0, "context": C0}, "context": C0},
        {"question": [Q0, Q0], "context": [C0, C0, C0]},
        {"question": [Q0, Q0, Q0], "context": [C0, C0]},
        {"question": Q0, "context": [C0]},
        {"question": Q0, "context": 5},
        {"question": Q0},
        {"context": C0},
        {},
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_refused(reader, arguments):
    with pytest.raises(ValueError, match=r"question|context"):
        reader(**arguments)


def test_what_is_no_question_at_all_is_refused(reader):
    for form in (lambda: reader(None), lambda: reader(1), lambda: reader(Y=None), lambda: reader(Q0)):
        with pytest.raises(ValueError):
            form()


def test_lists_of_none_give_none(reader):
    """Breaks if an empty list reaches a tokenizer. A generator that ends at once gives nothing."""
    assert reader([]) == []
    assert list(reader(iter([]))) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", 0),
        ("top_k", -1),
        ("max_answer_len", 0),
        ("max_answer_len", -2),
        ("doc_stride", 129),
        ("batch_size", 0),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_name(reader, name, value):
    """The toy's windows have 128 tokens. Breaks if a stride longer than a window loops, or top_k=0 gives []."""
    with pytest.raises(ValueError, match=name):
        reader(question=Q0, context=C0, **{name: value})


def test_an_unknown_argument_is_refused_with_the_nearest_known_one(reader):
    """The pipeline's own test passed max_seq_length, and nobody noticed that it did nothing. Breaks if it is dropped."""
    with pytest.raises(ValueError, match=r"max_seq_length.*max_seq_len\b"):
        reader(question=Q0, context=C0, max_seq_length=64)
    with pytest.raises(ValueError, match=r"topk.*top_k"):
        reader(question=Q0, context=C0, topk=2)
    with pytest.raises(ValueError, match="padding: leave it out, batches are padded to their longest window"):
        reader(question=Q0, context=C0, padding="max_length")
