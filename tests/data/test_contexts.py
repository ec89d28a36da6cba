"""Equal contexts of a table are one text, and one text is in memory at a time."""

import tracemalloc

import pyarrow as pa
import pytest

from qa_accel.data.contexts import Contexts
from qa_accel.data.squad_format import stored_once

TEXTS = [
    "Ana wrote a long text about it.",
    "short",
    "Ana wrote a long text about it.",
    "",
    "Ben did too, he says.",
    "short",
]


@pytest.mark.parametrize("kind", [pa.string_view(), pa.string()])
def test_each_row_finds_its_text_whatever_pieces_the_column_has(kind):
    """Breaks if a slice's offset is forgotten, or if places of two batches are taken for one."""
    parts = [stored_once(TEXTS), stored_once(TEXTS[::-1])[1:]]
    column = pa.chunked_array([part.cast(kind) for part in parts])[2:]
    contexts = Contexts(column)
    assert [contexts.text(number) for number in contexts.text_Q] == [*TEXTS[2:], *TEXTS[-2::-1]]
    assert len(contexts) <= 4 + 4 and len(Contexts(pa.chunked_array([parts[0]]))) == 4
    assert len(Contexts(pa.chunked_array([], kind))) == 0


def test_a_document_of_many_rows_is_in_memory_once():
    """300 rows of a text of a million characters. Breaks if each row has a Python string of its own, or a table is copied."""
    column = pa.chunked_array([stored_once(["a" * 1_000_000] * 150 + ["b" * 1_000_000] * 150)])
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    contexts = Contexts(column)
    assert [contexts.text(number)[0] for number in contexts.text_Q] == ["a"] * 150 + ["b"] * 150
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_500_000 and pa.total_allocated_bytes() - before < 1_000_000
