"""Reading JSON piece by piece gives the same values as Python's own reader."""

import io
import json
from pathlib import Path

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


@settings(max_examples=80, deadline=None)
@given(st.lists(json_values, max_size=5), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_json_read_in_pieces_equals_json_read_at_once(values, piece, indent, ascii_only):
    """Pieces of a few characters cut numbers, escapes and surrogate pairs at every possible place."""
    options = {"indent": indent, "ensure_ascii": ascii_only}
    assert elements(json.dumps(values, **options), piece) == values
    assert elements(json.dumps({"version": 12.5e10, "data": values, "end": None}, **options), piece) == values
    lines = [{"first": 1}, *values]
    assert elements("\n".join(json.dumps(value, ensure_ascii=ascii_only) for value in lines), piece) == lines
