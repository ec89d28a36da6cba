"""Reading JSON piece by piece gives the same values as Python's own reader."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_accel.data import json_stream

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def elements(text, piece):
    default, json_stream.PIECE = json_stream.PIECE, piece
    try:
        return list(json_stream.JsonStream(io.StringIO(text), Path("x.json")).elements())
    finally:
        json_stream.PIECE = default


@settings(max_examples=80)
@given(st.lists(json_values, max_size=5), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_json_read_in_pieces_equals_json_read_at_once(values, piece, indent, ascii_only):
    """Pieces of a few characters cut numbers, escapes and surrogate pairs at every possible place."""
    options = {"indent": indent, "ensure_ascii": ascii_only}
    assert elements(json.dumps(values, **options), piece) == values
    assert elements(json.dumps({"version": 12.5e10, "data": values, "end": None}, **options), piece) == values
    lines = [{"first": 1}, *values]
    assert elements("\n".join(json.dumps(value, ensure_ascii=ascii_only) for value in lines), piece) == lines


def test_questions_under_the_first_key_are_read_one_by_one():
    """BioASQ's files have no other key. Breaks if the whole list is held: then the broken end stops the first element. A
    story's questions, which come behind its other keys, stay part of it."""
    stream = json_stream.JsonStream(io.StringIO('{"questions": [{"id": "1"}, broken'), Path("x.json")).elements()
    assert next(stream) == {"id": "1"}
    with pytest.raises(ValueError, match=r"x.json: broken JSON at line 1"):
        next(stream)
    story = {"storyId": "a", "questions": [{"q": "?"}]}
    assert elements(json.dumps(story) + "\n" + json.dumps(story), 4) == [story, story]
