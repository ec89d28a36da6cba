"""A value of any size and kind becomes a few readable characters."""

import pytest

from qa_accel.messages import first_line, listed, quoted, shown


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("id", "'id'"),
        (7, "'7'"),
        ("x" * 40, "'" + "x" * 40 + "'"),
        ("x" * 41, "'" + "x" * 40 + "'..."),
        ("\x1b[2J\n\ud83d", r"'\x1b[2J\n\ud83d'"),
        ({"text": ["a"]}, "\"{'text': ['a']}\""),
    ],
)
def test_a_value_is_cut_and_escaped(value, text):
    assert quoted(value) == text


def test_an_integer_that_python_refuses_to_print_is_described():
    assert quoted(10**5000) == "an integer of thousands of digits"


def test_a_value_nested_deeper_than_python_can_print_is_shown():
    """Breaks with a RecursionError out of repr()."""
    assert shown(nested(100_000)) == "'[[[[[[[...]]]]]]]' (list)"
    assert shown(None) == "null or missing"


def test_ten_names_are_listed_and_the_others_are_counted():
    assert listed(["b", "a"]) == "b, a"
    assert listed([]) == "none"
    assert listed([""]) == "''"
    assert listed([" a", "x\ny"]) == r"' a', 'x\ny'"
    assert listed([f"n{i}" for i in range(10)]).endswith("n8, n9")
    assert listed([f"n{i}" for i in range(1011)]).endswith("n8, n9 and 1,001 more")


def test_of_a_librarys_message_the_first_line_is_kept():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(ValueError("x" * 300)) == "x" * 200 + "..."
