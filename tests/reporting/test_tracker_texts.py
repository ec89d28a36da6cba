"""Sections of a report as Markdown that TensorBoard shows literally; its own renderer is the judge."""

import html
import re
from pathlib import Path

import pytest

from qa_accel.reporting import tracker_texts
from qa_accel.reporting.blocks import Code, Curve, Figure, Report, Section, Table, Text, Tile, Tiles

plugin_util = pytest.importorskip("tensorboard.plugin_util", reason="needs the extra 'tracking'")


def shown(*parts) -> str:
    """HTML that TensorBoard makes of a section."""
    report = Report("R", "s", [Section("one", "One", parts)])
    return plugin_util.markdown_to_safe_html(tracker_texts.texts(report, None)["report/1_one"])


NASTY = [
    "<script>alert(1)</script>",
    "a | b",
    "*a* _b_ `c` ~~d~~ $e$",
    "[x](http://h.example/)",
    "![x](http://h.example/y.png)",
    "# a",
    "- a",
    "1. a",
    "&lt;",
    r"a\|b",
    "===",
]


@pytest.mark.parametrize("text", NASTY)
def test_text_from_data_is_shown_as_it_is(text):
    """Breaks if a text ends its cell, becomes a heading, a link or HTML, or shows its escapes."""
    made = shown(Table("T", ["question", "n"], [[text, 1]]), Text(text))
    assert len(re.findall("<td", made)) == 2, made
    assert not re.search("<(script|img|a |em|code|h1|li)", made), made
    plain = html.unescape(re.sub("<[^>]*>", "", made))
    assert plain.count(text) == 2, plain


def test_lines_and_control_characters_stay_in_their_cell():
    made = shown(Table("T", ["a"], [["one\ntwo\x1b[2J"]]))
    assert r"one two\x1b[2J" in html.unescape(made) and len(re.findall("<td", made)) == 1


def test_each_block_is_there_in_its_order():
    """Breaks if a kind of block is lost, or a table without a blank line before it stays text."""
    figure = Figure("f", "The curve", "x", "y", [Curve("c", [0], [0])], note="It rises.")
    made = shown(
        Text("be careful", is_warning=True),
        Tiles([Tile("F1", "80.1", "of 100")]),
        Table("Scores", ["score", "value"], [["f1", 0.123456789], ["total", None]]),
        figure,
        Code("qa-accel score a.json\n  b.json"),
    )
    parts = (
        "<h2>One",
        "Warning:</strong> be careful",
        "<td>80.1",
        "<strong>Scores",
        "<td>0.123457",
        "The curve. It rises",
        "<pre>",
    )
    places = [made.index(part) for part in parts]
    assert places == sorted(places)
    assert "qa-accel score a.json\n  b.json" in made


def test_code_cannot_end_its_block():
    made = shown(Code("a\n```\n<b>x</b>\n\n# y"))
    assert "<b>" not in made and "<h1>" not in made and made.count("<pre>") == 1


def test_a_long_table_says_how_many_rows_are_elsewhere():
    made = shown(Table("T", ["a"], [[n] for n in range(130)]))
    assert made.count("<td") == tracker_texts.MOST_ROWS == 100 and "30 more rows are in the report" in made


def test_sections_come_in_their_order_and_the_first_text_names_the_file(tmp_path):
    """Breaks if TensorBoard, which sorts by name, shows section 10 before section 2."""
    report = Report("R", "s", [Section(f"s{n}", "S", []) for n in range(1, 12)])
    texts = tracker_texts.texts(report, Path(tmp_path, "report.html"))
    assert list(texts) == sorted(texts) and list(texts)[10] == "report/10_s10"
    about = plugin_util.markdown_to_safe_html(texts["report/00_about"])
    assert str(tmp_path / "report.html") in html.unescape(about)
