"""A report as one HTML file, read as text: what is escaped, what the file may load, how large it is, what its script gets."""

import html.parser
import json
import math
import re
import sys
from dataclasses import replace

import pytest
from sample_report import CONTEXTS, HOSTILE, IMAGE, SCRIPT, explorer, figures, question, sample_report

from qa_accel.reporting.blocks import Curve, Figure, Report, Section, Table, Text
from qa_accel.reporting.html_page import MOST_BYTES, plotly_library, render
from qa_accel.reporting.plots import plotly_figure

pytest.importorskip("plotly", reason="reports need the extra report")


class Elements(html.parser.HTMLParser):
    """Every element with its attributes and the text in it, by an independent reader of HTML."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        (self.scripts if self.found and self.found[-1][0] == "script" else self.texts).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return render(sample_report())


@pytest.fixture(scope="module")
def elements(text) -> Elements:
    return Elements(text)


def data_of(text: str) -> dict:
    [found] = re.findall(r'<script type="application/json" id="report-data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def page_of(*blocks, **more) -> str:
    return render(Report("t", "", [Section("s", "S", blocks)], **more))


def test_the_file_has_plotly_once_and_stays_below_six_megabytes(text):
    """Breaks if each figure brings the library along."""
    assert text.count(plotly_library()[:2000]) == 1
    assert 4_000_000 < len(text.encode("utf-8")) < MOST_BYTES == 6_000_000


def test_questions_that_would_make_the_file_too_large_are_left_out_and_counted():
    """Breaks if 500 long contexts of a script with three bytes a character make a file that cannot be mailed."""
    contexts = [f"{number}" + "龍" * 2000 for number in range(500)]
    asked = [question(f"q{n}", "?", 0, [], "", "right", windows=[[0, 2001]]) | {"context": n} for n in range(500)]
    text = render(replace(sample_report(), explorer=replace(explorer(), contexts=contexts, questions=asked)))
    assert MOST_BYTES - 30_000 < len(text.encode("utf-8")) < MOST_BYTES
    data = data_of(text)["explorer"]
    kept = len(data["questions"])
    assert 100 < kept < 300 and data["left_out"] == 500 - kept and data["contexts"] == contexts[:kept]
    assert data["questions"] == asked[:kept]


def test_the_worst_questions_stay_below_six_megabytes_and_rows_of_those_left_out_open_nothing():
    """500 questions of the longest texts that are embedded, of characters with six bytes each, beside 900 kB of tables; places after
    emoji, which are longer numbers in the page. Breaks if bytes are counted before texts are escaped and places moved."""
    context, text = "😀" * 1500 + "<" * 1500, "&" * 400
    spans = {"gold": [[1600 + n, 1700 + n, text] for n in range(9)], "windows": [[n, 2990 + n] for n in range(10)]}
    asked = [
        question(f"q{n}", text, 0, [], "", "right", title=text, left_out=[[1600, 9]]) | spans | {"context": n}
        for n in range(500)
    ]
    contexts = [f"{context[:-3]}{n:3}" for n in range(500)]
    ids = [f"q{n}" for n in range(500)]
    for kilobytes in (0, 400, 900):
        rows = [[id, "x" * 2 * kilobytes] for id in ids]
        section = Section("s", "S", [Table("Wrong", ["question", ""], rows, [{"id": id} for id in ids])])
        text = render(Report("t", "", [section], replace(explorer(), contexts=contexts, questions=asked)))
        assert len(text.encode("utf-8")) < MOST_BYTES == 6_000_000
        kept = [each["id"] for each in data_of(text)["explorer"]["questions"]]
        assert kilobytes == 900 or 5 < len(kept) < 500
        opened = re.findall(r"&quot;id&quot;: &quot;(\w+)&quot;", text)
        assert opened == kept == ids[: len(kept)]


def test_nothing_of_the_file_is_fetched(text, elements):
    """Breaks if a script, a style or a picture comes from elsewhere, or the policy lets one."""
    loaded = [
        value
        for _, attributes in elements.found
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data")
    ]
    assert loaded and all(value.startswith("#") or value == "data:," for value in loaded)
    [policy] = [
        meta["content"] for meta in elements.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and "connect-src" not in rules
    assert re.fullmatch(r"('sha256-[\w+/=]{44}' ?){3}", rules["script-src"]), "three scripts, by what they hold"
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(style) == 1 and "url(" not in style[0] and "@import" not in style[0]
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_markup_in_texts_is_text(text, elements):
    """Breaks if one title, name, caption or cell is not escaped: the file has no picture, and no script but its own."""
    assert not elements.named("img") and not elements.named("b")[len(sample_report().sections[0].blocks[0].tiles) :]
    assert len(elements.named("script")) == 4 == text.count("</script")
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    seen = "".join(elements.texts)
    assert seen.count(f"minilm on SQuAD v2 {SCRIPT}") == 2, "the title and the first heading"
    assert IMAGE in seen and "Kinds of answers & <b>names</b>" in seen


def test_characters_that_cannot_be_seen_or_written_are_written_out():
    """Breaks if half of a pair stops the writing of the file, or a zero or an escape sequence vanishes."""
    text = page_of(Text("a\ud800b\x00c\x1b[1md\u202ee"), Table("t\x00", ["\ud800"], [["x\ny"]]))
    text.encode("utf-8")
    assert r"a\ud800b\x00c\x1b[1md\u202ee" in text and r"t\x00" in text and r"x\ny" in text
    assert "\x00" not in text.replace(plotly_library(), "")


def test_the_scripts_data_are_the_questions_with_places_in_units_of_utf16(text):
    """Breaks if a place counts an emoji as one: JavaScript counts two. The text of the JSON itself has no markup."""
    data = data_of(text)["explorer"]
    given = explorer()
    assert data["contexts"] == list(CONTEXTS) and CONTEXTS[4] == HOSTILE
    without_emoji = [asked for asked in given.questions if asked["context"] in (1, 2, 3, 4)]
    parsed = {asked["id"]: asked for asked in data["questions"]}
    for asked in without_emoji:
        expected = asked | ({"null_odds": "inf"} if asked["null_odds"] == math.inf else {})
        assert parsed[asked["id"]] == json.loads(json.dumps(expected))
    assert len(without_emoji) == 26 and len(parsed) == 30
    start, end, name = parsed["q-golds"]["gold"][0]
    assert name == "Gustave Eiffel"
    assert start == CONTEXTS[0].index(name) + 2 and end - start == len(name), "two emoji are before it"
    [raw] = re.findall(r'id="report-data">(.*?)</script>', text, re.DOTALL)
    assert not set("<>&\u2028\u2029") & set(raw) and not re.search("[\ud800-\udfff\u202e]", raw)
    assert data["threshold"] == 1.25 and data["names"] == ["this run", "baseline <b>"]


def test_warnings_come_first_in_their_section_and_are_counted_in_the_contents(text):
    """Breaks if a warning is where the reader has already believed the figure that it warns of."""
    assert text.index("The data was seen in training.") < text.index("Confidence against share of right answers")
    assert '<a href="#calibration">Calibration</a> <span class="count">1 warning</span>' in text
    assert text.count('class="count"') == 1


def test_columns_of_numbers_are_set_as_numbers_with_the_same_decimals():
    """Breaks if a column is judged by its first cell, or a small number is shown as zero."""
    rows = [["a", 6078, 0.5, 3e-7, "81.2 [80.1, 82.3]", "yes"], ["b", 12, None, 0.25, "9.5", "12"]]
    text = page_of(Table("Some", ["name", "count", "share", "rate", "interval", "mixed"], rows))
    heads = re.findall(r'<th scope="col"(.*?)>(\w+)</th>', text)
    assert [name for style, name in heads if "number" in style] == ["count", "share", "rate", "interval"]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text)
    assert cells == ["6,078", "0.5000", "3e-07", "81.2 [80.1, 82.3]", "yes", "12", "–", "0.2500", "9.5", "12"]


def test_rows_are_buttons_only_where_there_are_questions_to_filter(elements):
    """Breaks if a report without questions has buttons that do nothing."""
    table = Table("Kinds", ["Kind"], [["Wrong"], ["Other"]], [{"kind": "wrong"}, None])
    assert 'class="filter"' not in page_of(table)
    with_questions = Elements(page_of(table, explorer=explorer()))
    buttons = [button for button in with_questions.named("button") if button.get("class") == "filter"]
    assert [json.loads(button["data-filter"] or "") for button in buttons] == [{"kind": "wrong"}]
    given = [
        json.loads(button["data-filter"] or "")
        for button in elements.named("button")
        if button.get("class") == "filter"
    ]
    assert {"slice": f"title={SCRIPT}"} in given


def test_a_figure_becomes_traces_without_colours_and_with_gaps_where_there_is_no_number():
    """Breaks if a colour is fixed for one scheme, or an infinity makes JSON that no browser reads."""
    curves = [
        Curve("F1", [0, 1, 2], [1.0, math.nan, None], "band", [0.5, 1, 2], [1.5, 2, math.inf]),
        Curve("a <i>", [0, 1], [1, 2], dashed=True),
        Curve("dots", [1], [0.123456789], "dots"),
    ]
    made = plotly_figure(Figure("f", "F", "x", "y & z", curves, {"best": 1.5}, y_range=(0, 2)))
    low, high, middle, dashed, dots = made["data"]
    assert low["y"] == [0.5, 1, 2] and high["y"] == [1.5, 2, None] and high["fill"] == "tonexty"
    assert middle["y"] == [1.0, None, None] and [trace["showlegend"] for trace in made["data"]] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert dashed["line"]["dash"] == "dash" and dashed["name"] == "a &lt;i&gt;" and dots["y"] == [0.123457]
    assert [trace["meta"]["series"] for trace in made["data"]] == [0, 0, 0, 1, 2]
    assert made["layout"]["yaxis"]["range"] == [0, 2] and made["layout"]["yaxis"]["title"]["text"] == "y &amp; z"
    [line], [label] = made["layout"]["shapes"], made["layout"]["annotations"]
    assert line["x0"] == line["x1"] == label["x"] == 1.5 and label["text"] == "best"
    assert "color" not in json.dumps([plotly_figure(figure) for figure in figures()], allow_nan=False)


def test_bars_of_categories_go_from_left_to_right_in_the_order_given():
    """Breaks if long names of categories are written upright below the bars, or the last one comes on top."""
    names = ["Right", "Answered the unanswerable", "a < b"]
    made = plotly_figure(Figure("f", "F", "", "Questions", [Curve("c", names, [3, 2, 1], "bars")]))
    [bars], across, down = made["data"], made["layout"]["xaxis"], made["layout"]["yaxis"]
    assert bars["orientation"] == "h" and bars["x"] == [3, 2, 1] and bars["y"] == [*names[:2], "a &lt; b"]
    assert down["type"] == "category" and down["autorange"] == "reversed" and across["title"]["text"] == "Questions"
    assert down["ticktext"] == ["Right", "Answered the<br>unanswerable", "a &lt; b"]


def test_without_plotly_the_message_says_how_to_get_it(monkeypatch):
    """Breaks if the user sees an ImportError's traceback."""
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ValueError, match=re.escape("plotly, which is not installed: pip install 'qa-accel[report]'")):
        render(sample_report())
