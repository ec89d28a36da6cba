"""Values that are made when they are read, against a dict of all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_accel.data.made_in_chunks import MadeInChunks, Through


def made(count: int, begins: list[int]) -> tuple[MadeInChunks[list[int]], list[tuple[int, int]]]:
    """Values [row] by id "k<row>", and the chunks that were made, in order."""
    calls: list[tuple[int, int]] = []

    def make(first: int, last: int) -> list[list[int]]:
        calls.append((first, last))
        return [[row] for row in range(first, last)]

    return MadeInChunks([f"k{row}" for row in range(count)], np.array(begins, np.int64), make), calls


@settings(max_examples=100)
@given(st.integers(1, 12), st.sets(st.integers(1, 11)), st.data())
def test_any_order_of_reading_gives_the_values_of_a_dict(count, inner, data):
    """Breaks if a row is looked for in a neighbour of its chunk, or the memory of the last row hides another."""
    found, _ = made(count, [0, *sorted(row for row in inner if row < count)])
    expected = {f"k{row}": [row] for row in range(count)}
    for row in data.draw(st.lists(st.integers(0, count - 1), max_size=20)):
        assert f"k{row}" in found and found[f"k{row}"] == [row]
    assert found == expected and expected == found and list(found) == list(expected) and len(found) == count
    assert "other" not in found and None not in found
    with pytest.raises(KeyError):
        found["other"]


def test_reading_in_order_makes_each_chunk_once_and_keeps_the_last():
    """Breaks if values are made again for each of a chunk's ids, or a table of all ids is made for reading in order."""
    found, calls = made(5, [0, 2, 3])
    assert list(found.values()) == [[0], [1], [2], [3], [4]]
    assert calls == [(0, 2), (2, 3), (3, 5)]
    assert found["k4"] is found["k4"] and len(calls) == 3
    assert next(iter(found.items())) == ("k0", [0]) and calls[3:] == [(0, 2)]
    assert "_row_of" not in vars(found)


def test_nothing_is_made_of_no_ids():
    found, calls = made(0, [])
    assert found == {} and not calls and "k0" not in found


def test_through_is_each_value_through_the_function():
    found, calls = made(3, [0, 1])
    doubled = Through(lambda value: [2 * value[0]], found)
    assert not calls and doubled == {"k0": [0], "k1": [2], "k2": [4]}
    assert "k1" in doubled and "k3" not in doubled and len(doubled) == 3
