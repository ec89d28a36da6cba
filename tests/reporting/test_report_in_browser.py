"""A report in a real browser, opened from a file with the network off: by mouse, by keyboard, narrow, dark and on paper."""

import json
import re

import pytest
from browsers import CONTRAST, artefacts, page_opener, wait_until
from report_checks import check_report, shown_questions, wait_for_figures
from sample_report import HOSTILE, IMAGE, SCRIPT, figures, sample_report

pytest.importorskip("plotly", reason="reports need the extra report")

WIDE = {
    "viewport": {"width": 1280, "height": 900},
    "color_scheme": "light",
    "reduced_motion": "reduce",
    "offline": True,
}
NARROW = WIDE | {"viewport": {"width": 360, "height": 780}}
PIECES = """(id) => {
    const box = document.querySelector(`.question[data-id="${id}"] .passage`);
    return [...box.childNodes].map((node) => [node.textContent, [node, ...(node.querySelectorAll?.("mark") || [])]
        .map((mark) => mark.className || "").filter(Boolean).join(" ")]).filter(([text]) => text);
}"""
"""Of a question's context, each piece with the kinds of the marks that it is in."""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    from qa_accel.reporting.html_page import render

    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(sample_report()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def wide(browser, address):
    """One page for many tests: reading a file of 5 MB takes two seconds. Each test begins by `fresh`."""
    with page_opener(browser) as open_page:
        yield open_page(address, **WIDE)


@pytest.fixture
def page(wide):
    """The page as if just opened, without filters."""
    wide.click("#explorer-filters button[type=reset]")
    wide.complaints.clear()
    yield wide
    assert wide.complaints == []


def question(page, id: str):
    return page.locator(f'.question[data-id="{id}"]')


def open_question(page, id: str) -> None:
    question(page, id).locator("summary").click()
    question(page, id).locator(".passage").wait_for()


def names(page) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('.question')].map((one) => one.dataset.id)")


def test_the_file_opens_without_network_and_every_figure_is_drawn(wide):
    """Breaks if plotly needs what the page's policy forbids, a figure is only an empty box, or anything is fetched."""
    page = wide
    check_report(page)
    drawn = {figure["name"]: figure["drawn"] for figure in wait_for_figures(page)}
    assert drawn == {"loss": 2, "threshold": 4, "reliability": 2, "kinds": 2, "gradient": 1}
    labels = page.locator("#figure-threshold .annotation-text").all_text_contents()
    assert sorted(labels) == ["best", "stored", "zero"]
    dashes = page.evaluate(
        "[...document.querySelectorAll('#figure-threshold .scatterlayer .js-line')].map((line) => getComputedStyle(line).strokeDasharray)"
    )
    assert sum(dash != "none" for dash in dashes) == 1, "one of its curves is dashed"
    assert page.locator(".modebar-btn").count() == 0


def test_a_figure_tells_its_numbers_on_hover_and_as_a_table(page):
    """Breaks if the table has other numbers than the picture."""
    wait_for_figures(page)
    page.locator("#figure-loss .nsewdrag").hover()
    page.locator("#figure-loss .hoverlayer .legendtext, #figure-loss .hoverlayer text").first.wait_for()
    figure = page.locator("#figure-kinds")
    figure.locator("summary").click()
    figure.locator("table").wait_for()
    assert figure.locator("thead th").all_text_contents() == ["", f"this {SCRIPT}", "other"]
    assert figure.locator("tbody tr").nth(1).locator("td").all_text_contents() == ["Boundary only", "402", "361.8"]
    page.locator("#figure-threshold summary").click()
    page.locator("#figure-threshold table").wait_for()
    assert page.locator("#figure-threshold tbody tr").count() == len(figures()[1].curves[0].x) == 200


def test_markup_and_control_characters_of_the_data_are_shown_and_never_run(page):
    """Breaks if a text of the data reaches innerHTML, or a zero or half of a pair vanishes."""
    wait_for_figures(page)
    page.fill("#explorer-text", 'What is ">')
    assert names(page) == [f"q-{SCRIPT}"]
    opened = page.locator(".question")
    opened.locator("summary").click()
    opened.locator(".passage").wait_for()
    assert opened.locator(".asked").text_content() == f"{SCRIPT} What is {IMAGE}?"
    expected = HOSTILE.replace("\ud800", r"\ud800").replace("\x00", r"\x00").replace("\x1b", r"\x1b")
    expected = expected.replace("\u202e", r"\u202e").replace("\u202c", r"\u202c")
    assert opened.locator(".passage").text_content() == expected
    assert opened.locator(".passage mark.predicted").all_text_contents() == ["</script>"]
    legend = page.locator("#figure-kinds .legendtext").all_text_contents()
    assert legend == [f"this {SCRIPT}", "other"]
    assert page.title() == f"minilm on SQuAD v2 {SCRIPT}"
    assert page.locator("img, main script, main b b").count() == 0


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


def test_every_control_has_a_name_and_every_region_a_heading(page):
    """By the browser's own tree of what a screen reader says."""
    for name in ("Kind of answer", "Slice", "Compared", "Order"):
        assert page.get_by_role("combobox", name=name, exact=True).is_visible()
    open_question(page, "q-golds")
    tree = page.locator("body").aria_snapshot()
    nameless = [
        line
        for line in tree.splitlines()
        if re.fullmatch(r"\s*- (button|link|combobox|searchbox|checkbox|region|table)\s*:?", line)
    ]
    assert nameless == []
    assert tree.count("searchbox") == 1 and 'heading "What ran" [level=2]' in tree and 'region "Context"' in tree
    for figure in figures():
        assert page.get_by_role("figure", name=figure.title).count() == 1
        assert json.dumps(figure.note)[1:-1] in tree
    page.keyboard.press("Home")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.evaluate("document.querySelector('.skip').focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "report-content"


def test_lines_are_copied(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click(".copy")
    wait_until(page, "document.querySelector('.copy').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()").startswith("accelerate launch scripts/train.py")


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_width_and_is_readable_in_both_schemes(opened, wide, address, width):
    """Leaves the screenshots. Breaks if something is wider than the screen, text and ground are too alike, or the figures keep
    the colours of the scheme before."""
    page = opened(address, **NARROW) if width == 360 else wide
    wait_for_figures(page)
    colours = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = false; })")
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=artefacts() / f"report-{width}-{scheme}-first-screen.png")
        page.evaluate("document.querySelectorAll('main details:not(.question)').forEach((one) => { one.open = true; })")
        open_question(page, "q-golds")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for selector in (
            ".subtitle", ".contents a", ".tiles small", ".warning strong", ".warning p", "thead th", ".filter", "figcaption p",
            ".xtick text", ".legendtext", "pre", ".copy", ".kind", ".brief", ".passage mark.gold", ".facts dt", "footer",
        ):  # fmt: skip
            assert page.evaluate(CONTRAST, selector) >= 4.5, f"{scheme}: {selector}"
        colours[scheme] = page.evaluate(
            "[...document.querySelectorAll('body, .xtick text, .scatterlayer .js-line, .legendtext, .pattern rect')].map((one) => { const style ="
            " getComputedStyle(one); return [style.backgroundColor, style.fill, style.stroke].join(); })"
        )
        page.evaluate(
            "document.querySelectorAll('main details:not(.question)').forEach((one) => { one.open = false; })"
        )
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=artefacts() / f"report-{width}-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    assert len(colours["light"]) > 20
    assert all(light != dark for light, dark in zip(colours["light"], colours["dark"], strict=True))
    assert page.complaints == []


def test_figures_follow_the_width_of_the_window(page):
    """Breaks if a picture keeps its first width, and then makes a narrowed page scroll sideways."""
    wait_for_figures(page)
    for width in (500, 360, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        wait_until(
            page,
            "[...document.querySelectorAll('.plot')].every((plot) => Math.abs(plot.clientWidth - plot.querySelector('.main-svg').clientWidth) < 2)",
        )
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_on_paper_the_page_is_light_and_every_figure_fits(page):
    """Breaks if a dark screen prints as a black sheet, or a wide figure is cut off at the margin."""
    page.emulate_media(color_scheme="dark")
    page.evaluate(
        """addEventListener("beforeprint", () => setTimeout(() => { window.seen = [
            document.documentElement.className, getComputedStyle(document.body).color,
            Math.max(...[...document.querySelectorAll(".main-svg")].map((svg) => svg.getBoundingClientRect().width)),
            document.querySelectorAll(".main-svg").length]; }))"""
    )
    page.pdf(format="A4")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    wait_until(page, "window.seen && window.seen[3] >= 5")
    printing, _, widest, _ = page.evaluate("window.seen")
    assert printing == "printing" and 0 < widest <= 680
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 33, 40)"
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(230, 233, 237)"
    page.emulate_media(color_scheme="light")


def test_only_the_files_own_scripts_may_run(wide):
    """The browser obeys the policy: a script put in later does not run, and nothing is fetched."""
    page = wide
    page.evaluate(
        """() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'ran'";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<b onclick=\\"document.title = 'ran'\\" id=hostile>press</b>");
        document.getElementById("hostile").click();
    }"""
    )
    assert page.title() != "ran"
    assert page.evaluate("fetch('http://127.0.0.2:1/').then(() => 'fetched', () => 'refused')") == "refused"
    assert sum("Content Security Policy" in complaint for complaint in page.complaints) >= 3
