"""A real browser for tests of pages: headless Chromium, driven by playwright. The fixtures are in tests/conftest.py."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

CONTRAST = """(selector) => {
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = parts(colour).map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let ground = document.querySelector(selector);
    const style = getComputedStyle(ground);
    const ink = light(ground instanceof SVGElement ? style.fill : style.color);
    while (parts(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
    const paper = light(getComputedStyle(ground).backgroundColor);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
}"""
"""Of the first element's text and its ground, by WCAG 2: 4.5 at least is readable."""


@contextmanager
def opened_browser(home: Path) -> Iterator[Any]:
    """A browser with a home of its own; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium here (Debian: apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--disable-sync"], env=environment)
        yield browser
        browser.close()


@contextmanager
def page_opener(browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens an address in a page with lists of what it `requested` and of its `complaints`."""
    contexts = []

    def open_page(url: str, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.requested, page.complaints = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()


def wait_until(page: Any, expression: str, seconds: float = 20) -> None:
    """Until the page's JavaScript says so. Playwright's own way of it needs `eval`, which a page's policy may forbid."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"not so within {seconds} s: {expression}"
        page.wait_for_timeout(20)


def artefacts() -> Path:
    """The folder where tests leave screenshots to look at."""
    default = Path(__file__).resolve().parents[2] / "build" / "artefacts"
    folder = Path(os.environ.get("QA_ACCEL_ARTEFACTS", default))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
