"""A report in a real browser, opened from a file with the network off: by mouse, by keyboard, narrow, dark and on paper."""

import json
import re

import pytest
from browsers import CONTRAST, artefacts, wait_until
from report_checks import WIDE, check_report, names, open_question, wait_for_figures
from sample_report import HOSTILE, IMAGE, SCRIPT, figures

pytest.importorskip("plotly", reason="reports need the extra report")

NARROW = WIDE | {"viewport": {"width": 360, "height": 780}}


def test_the_file_opens_without_network_and_every_figure_is_drawn(wide_page):
    """Breaks if plotly needs what the page's policy forbids, a figure is only an empty box, or anything is fetched."""
    page = wide_page
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
def test_the_page_fits_its_width_and_is_readable_in_both_schemes(opened, wide_page, sample_address, width):
    """Leaves the screenshots. Breaks if something is wider than the screen, text and ground are too alike, or the figures keep
    the colours of the scheme before."""
    page = opened(sample_address, **NARROW) if width == 360 else wide_page
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


def test_only_the_files_own_scripts_may_run(wide_page):
    """The browser obeys the policy: a script put in later does not run, and nothing is fetched."""
    page = wide_page
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
