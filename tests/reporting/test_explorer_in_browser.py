"""The questions of a report in a real browser: filters, order, marks in contexts, by mouse and by keyboard."""

from dataclasses import replace

import pytest
import sample_report
from browsers import wait_until
from report_checks import WIDE, names, open_question, question, shown_questions
from sample_report import RIVER, SCRIPT

from qa_accel.reporting.blocks import Report, Section, Table

pytest.importorskip("plotly", reason="reports need the extra report")

PIECES = """(id) => {
    const box = document.querySelector(`.question[data-id="${id}"] .passage`);
    return [...box.childNodes].map((node) => [node.textContent, [node, ...(node.querySelectorAll?.("mark") || [])]
        .map((mark) => mark.className || "").filter(Boolean).join(" ")]).filter(([text]) => text);
}"""
"""Of a question's context, each piece with the kinds of the marks that it is in."""


def test_filters_narrow_the_list_and_the_line_above_counts(page):
    """By hand: the questions by the river repeat four, of which the first and the last are right: 6 + 5, with two others 13."""
    assert page.inner_text("#explorer-count") == "30 of 30 shown, of 6,078 in the data (page 1 of 2)"
    page.select_option("#explorer-kind", "right")
    assert page.inner_text("#explorer-count") == "13 of 30 shown, of 6,078 in the data"
    page.select_option("#explorer-family", "word")
    page.select_option("#explorer-value", "who")
    assert shown_questions(page) == 5 and page.locator(".question").count() == 5
    page.click("#explorer-filters button[type=reset]")
    page.select_option("#explorer-flip", "worse")
    assert names(page) == ["q-golds"]
    page.select_option("#explorer-flip", "")
    page.fill("#explorer-text", "CORDILLERA")
    assert shown_questions(page) == 23, "22 and one ask about the text that has the word"
    assert page.inner_text("#explorer-kind option:nth-child(2)") == "Right (4,213)"


def test_confident_and_wrong_come_first_unless_the_order_of_the_data_is_asked_for(page):
    assert names(page)[:3] == ["q-accent", "q-golds", "q-missed"], "confidences 0.97, 0.91, 0.88"
    right = [name for name in names(page) if name in ("q-tall", "q-arabic", "river-0", "river-3")]
    assert right == names(page)[-len(right) :] and right, "what is right comes after all that is wrong"
    page.select_option("#explorer-order", "data")
    assert names(page)[:4] == ["q-golds", "q-tall", "q-missed", "q-hebrew"]


def test_spans_are_marked_where_their_places_say(page):
    """Two emoji are before them, the golds overlap, a span ends in the middle of what a person sees as one character.
    Breaks if places are taken for JavaScript's, if marks must nest, or if an accent is cut off its letter."""
    open_question(page, "q-golds")
    pieces = page.evaluate(PIECES, "q-golds")
    assert [piece for piece in pieces if piece[1]] == [
        ["the ", "predicted"],
        ["engineer ", "gold predicted"],
        ["Gustave ", "gold predicted other"],
        ["Eiffel", "gold predicted other"],
        [", whose company", "gold"],
        [" … 1,234 characters left out … ", "cut"],
    ]
    marks = question(page, "q-golds").locator(".passage mark[data-label]")
    assert [mark.get_attribute("data-label") for mark in marks.all()] == [
        "this run",
        "gold 2",
        "gold 1",
        "baseline <b>",
        "gold 3",
    ]
    styles = page.evaluate(
        "['gold', 'predicted', 'other'].map((kind) => getComputedStyle(document.querySelector('.passage mark.' + kind)).textDecorationStyle)"
    )
    assert styles == ["solid", "dashed", "dotted"], "also without colour"
    open_question(page, "q-accent")
    pieces = page.evaluate(PIECES, "q-accent")
    assert ["cafe\u0301", "gold"] in pieces and ["family 👩\u200d👩\u200d👧", "predicted"] in pieces
    assert question(page, "q-golds").get_attribute("open") is None, "one is open at a time"


def test_text_from_right_to_left_has_its_direction(page):
    open_question(page, "q-hebrew")
    assert page.evaluate("getComputedStyle(document.querySelector('[data-id=q-hebrew] .passage')).direction") == "rtl"
    assert page.evaluate("getComputedStyle(document.querySelector('[data-id=q-hebrew] .asked')).direction") == "rtl"
    assert [text for text, kind in page.evaluate(PIECES, "q-hebrew") if kind == "gold"] == ["ירושלים"]


def test_windows_are_shown_when_asked_for(page):
    """Breaks if a border is at another character than the window's: the second begins 180 characters after the text does."""
    open_question(page, "q-golds")
    edges = question(page, "q-golds").locator(".edge")
    assert [edge.get_attribute("title") for edge in edges.all()] == [
        "Window 1 begins here",
        "Window 2 begins here",
        "Window 1 ends here",
        "Window 2 ends here",
    ]
    assert not edges.first.is_visible()
    question(page, "q-golds").get_by_label("show the 2 windows").check()
    assert edges.first.is_visible()
    before = page.evaluate(
        "(() => { const range = document.createRange(), box = document.querySelector('[data-id=q-golds] .passage');"
        " range.setStart(box, 0); range.setEndBefore(box.querySelectorAll('.edge')[1]); return range.toString(); })()"
    )
    assert len(before) == 180, "Python's characters"


def test_null_odds_are_put_in_words_beside_the_threshold(page):
    open_question(page, "q-missed")
    text = question(page, "q-missed").inner_text()
    assert "Null odds 6.50 are above the threshold 1.25: no answer is given." in text
    at = page.evaluate(
        "[...document.querySelectorAll('[data-id=q-missed] .at')].map((one) => parseFloat(one.style.left))"
    )
    assert len(at) == 1 and 50 < at[0] <= 97
    page.fill("#explorer-text", "above all")
    open_question(page, "q-unknown")
    assert "Null odds inf." in question(page, "q-unknown").inner_text()
    assert "Confidence" not in question(page, "q-unknown").locator("thead").inner_text(), "this one has none"


def test_the_keyboard_alone_goes_from_a_row_of_a_table_to_an_open_question(page):
    """Breaks if a row is clicked only by mouse, or the focus stays behind at the table."""
    page.get_by_role("button", name="how many").or_(
        page.locator('button.filter[data-filter*="how many"]')
    ).first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "explorer-count"
    assert page.input_value("#explorer-family") == "word" and page.input_value("#explorer-value") == "how many"
    assert shown_questions(page) == 7, "q-tall and numbers 1, 5, 9, 13, 17, 21 by the river"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(".question[open] .passage")
    page.keyboard.press("Enter")
    page.wait_for_selector(".question[open]", state="detached")


def test_values_of_a_slice_may_have_any_characters(page):
    """Breaks if a value is split at its own equals sign, or a selector is made of it."""
    buttons = page.locator('button.filter[data-filter*="title="]')
    buttons.nth(1).click()
    assert page.input_value("#explorer-value") == "a=b" and names(page) == ["q-arabic"]
    buttons.nth(0).click()
    assert page.input_value("#explorer-value") == SCRIPT and names(page) == [f"q-{SCRIPT}"]


def test_pages_of_the_list_are_turned_by_keyboard(page):
    page.focus("#explorer-next")
    page.keyboard.press("Enter")
    assert page.locator(".question").count() == 10 and page.inner_text("#explorer-page") == "21 to 30 of 30"
    assert page.evaluate("document.activeElement.id") == "explorer-count", (
        "the button is now off; the focus is not lost"
    )
    assert page.is_disabled("#explorer-next")
    page.click("#explorer-previous")
    assert page.locator(".question").count() == 20


def test_a_view_has_an_address_of_its_own(page):
    """Breaks if a link to a view, sent by mail, opens the whole list."""
    page.select_option("#explorer-kind", "wrong")
    page.fill("#explorer-text", "ירושלים")
    open_question(page, "q-hebrew")
    wait_until(page, "location.hash.includes('open=')")
    view = page.evaluate("location.hash")
    page.click("#explorer-filters button[type=reset]")
    assert page.evaluate("location.hash") == "#explorer"
    page.evaluate("(view) => { location.hash = view; }", view)
    page.wait_for_selector(".question[open]")
    assert names(page) == ["q-hebrew"] and page.input_value("#explorer-kind") == "wrong"


@pytest.fixture(scope="module")
def odd(browser, tmp_path_factory):
    """A function that opens a report of odd questions: `changed` fields of its explorer."""
    from browsers import page_opener

    from qa_accel.reporting.html_page import render

    def made(id: str, predicted: str = "2014", **more):
        asked = more.pop("asked", f"What of {id}?")
        return sample_report.question(
            id, asked, 1, ["2014"], predicted, "wrong" if predicted != "2014" else "right", **more
        )

    first = RIVER.index("South America") + 5
    gaps = [[0, 1000], [first, 2000], [len(RIVER), 3]]
    windows = [[0, first], [first, len(RIVER)]]
    questions = [
        made("q-gaps", "South America", left_out=gaps, windows=windows, row=900, confidence=0.99),
        *(made(f"river-{number}", row=number, null_odds=number - 12.0) for number in range(25)),
        made("q-blank", "", asked=" \n", row=300, null_odds=1e9),
    ]
    rows, ids = [["last"], ["gone"], ["gaps"]], ["river-24", "not-embedded", "q-gaps"]
    table = Table("Confident and wrong", ["question"], rows, [{"id": id} for id in ids])
    with page_opener(browser) as open_page:

        def opened(**changed):
            explorer = replace(sample_report.explorer(), questions=questions, names=None, **changed)
            path = tmp_path_factory.mktemp("odd") / "report.html"
            path.write_text(render(Report("Odd", "", [Section("s", "S", [table])], explorer)), encoding="utf-8")
            return open_page(path.as_uri(), **WIDE)

        yield opened


@pytest.fixture(scope="module")
def odd_page(odd):
    return odd(threshold=0.5)


def test_what_is_left_out_is_said_at_its_place(odd_page):
    """Breaks if a reader takes two parts of a context for one sentence, or a window seems to end behind what is left out."""
    odd_page.click("#explorer-filters button[type=reset]")
    open_question(odd_page, "q-gaps")
    first = RIVER.index("South America")
    cuts = [" … 1,000 characters left out … ", " … 2,000 characters left out … ", " … 3 characters left out … "]
    expected = [
        [cuts[0], "cut"], [RIVER[:first], ""], ["South", "predicted"], [cuts[1], "cut"], [" America", "predicted"],
    ]  # fmt: skip
    pieces = odd_page.evaluate(PIECES, "q-gaps")
    assert pieces[:5] == expected and pieces[-1] == [cuts[2], "cut"]
    edges = odd_page.evaluate(
        "[...document.querySelectorAll('[data-id=q-gaps] .passage > .edge, [data-id=q-gaps] .passage > .cut')].map((one) => one.title || 'cut')"
    )
    assert edges == [
        *(
            "cut",
            "Window 1 begins here",
            "Window 1 ends here",
            "cut",
            "Window 2 begins here",
            "Window 2 ends here",
            "cut",
        ),
    ]


def test_one_question_without_any_span_does_not_press_the_scale_together(odd_page):
    """Null odds from -12 to 12 and one of 1e9; 95 % of the others are within 11.5 of the threshold 0.5. By hand: 7 is 6.5 above it,
    -7 is 7.5 below. Breaks if all are in the middle, or the extreme one is outside."""
    places = {}
    for id in ("river-19", "river-5", "q-blank"):
        odd_page.fill("#explorer-text", id)
        open_question(odd_page, id)
        style = odd_page.evaluate(f"document.querySelector('[data-id=\"{id}\"] .at').style.left")
        places[id] = float(style.removesuffix("%"))
    expected = {"river-19": 50 + 47 * 6.5 / 11.5, "river-5": 50 - 47 * 7.5 / 11.5, "q-blank": 97}
    assert places == pytest.approx(expected, abs=0.01)


def test_a_question_without_text_is_listed_by_its_id(odd_page):
    odd_page.fill("#explorer-text", "q-blank")
    assert question(odd_page, "q-blank").locator(".asked").inner_text() == "q-blank"


def test_a_row_of_one_question_opens_it_wherever_it_is_in_the_list(odd_page):
    """Breaks if the question is on the list's second page and stays there, the focus is left behind at the table, or a row opens
    a question that the page does not have."""
    assert odd_page.locator("button.filter").all_text_contents() == [
        "last: show this question",
        "gaps: show this question",
    ]
    odd_page.fill("#explorer-text", "nothing like it")
    odd_page.locator("button.filter").first.focus()
    odd_page.keyboard.press("Enter")
    question(odd_page, "river-24").locator(".passage").wait_for()
    assert odd_page.input_value("#explorer-text") == "" and shown_questions(odd_page) == 27
    assert odd_page.inner_text("#explorer-page") == "21 to 27 of 27"
    assert odd_page.evaluate("document.activeElement.parentElement.dataset.id") == "river-24"
    assert odd_page.locator(".question[open]").count() == 1
    assert odd_page.complaints == []


def test_the_order_of_the_data_is_that_of_the_data(odd_page):
    """The errors are embedded first. Breaks if the order of embedding is shown as the data's."""
    odd_page.click("#explorer-filters button[type=reset]")
    odd_page.select_option("#explorer-order", "data")
    odd_page.click("#explorer-next")
    assert names(odd_page) == [*(f"river-{number}" for number in range(20, 25)), "q-blank", "q-gaps"]
    odd_page.select_option("#explorer-order", "sure")


def test_where_null_odds_decide_nothing_nobody_is_asked_whether_there_is_an_answer(odd):
    page = odd(threshold=None)
    open_question(page, "q-gaps")
    assert "Is there an answer?" not in question(page, "q-gaps").inner_text()
    assert page.complaints == []
