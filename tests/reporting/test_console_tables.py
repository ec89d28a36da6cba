"""Tables of a report on a console of 80 columns."""

import io

import pytest

from qa_accel.reporting.blocks import Figure, Section, Table, Text
from qa_accel.reporting.console_tables import print_section
from qa_accel.reporting.contents import SLICE_COLUMNS
from qa_accel.terminal import make_console

KINDS = (
    "right but different words (F1 0.5 or more)",
    "wrong span",
    "missed answer",
    "answered the unanswerable",
    "cut",
)


def printed(*blocks, width: int = 80) -> list[str]:
    console = make_console(width=width, file=io.StringIO())
    print_section(console, Section("s", "Section", blocks))
    return console.file.getvalue().splitlines()


def slices(values) -> Table:
    """As `contents.slice_table` makes them: eight columns, and five that only a page has room for."""
    columns = (*SLICE_COLUMNS, *(f"{kind}, %" for kind in KINDS))
    rows = [
        (value, 12345, "100.0", "100.0", "100.0", "100.0", "< 0.001", "within chance", *["12.3"] * 5)
        for value in values
    ]
    return Table("By windows", columns, rows, detail_columns=5)


@pytest.mark.parametrize(
    "value", ["what", "2001 to 5000 characters", "a_title_without_any_blank_that_is_longer_than_its_column", "龍" * 30]
)
def test_numbers_are_whole_and_a_line_has_at_most_eighty_columns(value):
    """Breaks if thirteen columns are squeezed into what eight have room for: a number in three lines cannot be read."""
    from rich.cells import cell_len

    lines = printed(slices([value, "other"]))
    assert max(map(cell_len, lines)) <= 80
    [row] = [line for line in lines if line.strip().startswith("other")]
    assert row.split()[1:8] == ["12,345", "100.0", "100.0", "100.0", "100.0", "<", "0.001"]
    text = "\n".join(lines)
    assert "12.3" not in text and "unanswerable" not in text
    assert "".join(line[:12].strip() for line in lines).count("questions") <= 1


def test_long_texts_are_folded_between_words():
    """Breaks if a column of text takes all room, and the kinds beside it are cut into syllables."""
    row = (
        "In which year did the person who built it come into the world?",
        "(no answer)",
        "1849",
        "answered the unanswerable",
        "0.95",
    )
    lines = printed(Table("Confident and wrong", ("question", "gold", "answered", "kind", "confidence"), [row] * 2))
    assert max(map(len, lines)) <= 80
    words = {word for line in lines for word in line.split()}
    assert words >= {"unanswerable", "(no", "answer)", "1849", "0.95", "confidence", "answered"}


def test_figures_are_left_out_and_empty_tables_have_their_head():
    lines = printed(Text("said"), Figure("f", "Drawn", "x", "y", []), Table("Empty", ("name", "count"), []))
    text = "\n".join(lines)
    assert "said" in text and "Drawn" not in text and "Empty" in text and "count" in text
