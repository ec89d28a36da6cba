"""What has to hold of any report in a browser, given the page of `browsers.page_opener` that has opened the file."""

import re
from typing import Any

from browsers import wait_until

WIDE: dict[str, Any] = {
    "viewport": {"width": 1280, "height": 900},
    "color_scheme": "light",
    "reduced_motion": "reduce",
    "offline": True,
}
"""How tests open a page, if not said otherwise."""
DRAWN = """() => [...document.querySelectorAll(".plot")].map((plot) => ({
    name: plot.dataset.figure,
    width: plot.querySelector(".main-svg")?.getBoundingClientRect().width || 0,
    curves: plot.data ? plot.data.filter(({ x, y }) => x.some((value, place) => value !== null && y[place] !== null)).length : 0,
    drawn: [...plot.querySelectorAll(".scatterlayer .trace, .barlayer .trace")].filter((trace) => trace.querySelector("path[d]")).length,
    outside: plot.scrollWidth > plot.clientWidth,
}))"""
"""Of each figure, how many of its curves have something to show, and how many are paths in its picture."""
ALL_DRAWN = "() => [...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn)"
FIRST_WITH_A_SPAN = """() => JSON.parse(document.getElementById("report-data").textContent).explorer.questions
    .find(({ predicted, context }) => predicted.text && predicted.start !== null) || null"""
CONTEXT = """(place) => JSON.parse(document.getElementById("report-data").textContent).explorer.contexts[place]"""


def wait_for_figures(page: Any) -> list[dict[str, Any]]:
    """What each figure shows, when all are drawn."""
    wait_until(page, ALL_DRAWN)
    return page.evaluate(DRAWN)


def shown_questions(page: Any) -> int:
    """The number that the line above the list says."""
    found = re.match(r"([\d,]+) of ", page.inner_text("#explorer-count"))
    assert found, page.inner_text("#explorer-count")
    return int(found[1].replace(",", ""))


def question(page: Any, id: str) -> Any:
    return page.locator(f'.question[data-id="{id}"]')


def open_question(page: Any, id: str) -> None:
    question(page, id).locator("summary").click()
    question(page, id).locator(".passage").wait_for()


def names(page: Any) -> list[str]:
    """Ids of the questions on the list's page."""
    return page.evaluate("[...document.querySelectorAll('.question')].map((one) => one.dataset.id)")


def check_report(page: Any) -> None:
    """No complaint, no request, every figure drawn whole; a filter narrows the list; a question opens and its span is marked."""
    for figure in wait_for_figures(page):
        assert figure["curves"] == figure["drawn"] > 0, f"{figure['name']}: every curve is in the picture"
        assert figure["width"] > 200 and not figure["outside"], f"{figure['name']}: the picture fits its place"
    if page.locator("#explorer").count():
        check_explorer(page)
    assert page.complaints == []
    assert page.requested and all(url.startswith(("file:", "data:")) for url in page.requested), page.requested


def check_explorer(page: Any) -> None:
    all_of_them = shown_questions(page)
    kinds = page.evaluate("[...document.querySelectorAll('#explorer-kind option')].map((option) => option.value)")
    numbers = {}
    for kind in kinds:
        page.select_option("#explorer-kind", kind)
        numbers[kind] = shown_questions(page)
        assert page.locator("#explorer-questions .question").count() == min(20, numbers[kind])
    assert numbers.pop("") == all_of_them == sum(numbers.values()), "each question is of one kind"
    page.select_option("#explorer-kind", "")
    question = page.evaluate(FIRST_WITH_A_SPAN)
    assert question is not None, "some question has a predicted span"
    page.fill("#explorer-text", question["id"])
    opened = page.locator(f'.question[data-id="{question["id"]}"]')
    opened.locator("summary").click()
    opened.locator(".passage").wait_for()
    marked = "".join(opened.locator(".passage mark.predicted").all_text_contents())
    start, end = question["predicted"]["start"], question["predicted"]["end"]
    units = page.evaluate(CONTEXT, question["context"]).encode("utf-16-le", "surrogatepass")
    assert units[2 * start : 2 * end].decode("utf-16-le", "surrogatepass") in marked, "what was predicted is marked"
    assert opened.locator("tbody tr").count() == len(question["nbest"])
    page.click("#explorer-filters button[type=reset]")
    assert shown_questions(page) == all_of_them
