"""sweep.html and learning_curve.html in a real browser: all figures drawn, nothing fetched, wide and narrow, light and dark."""

import numpy as np
import pytest
from browsers import CONTRAST, artefacts, wait_until
from report_checks import ALL_DRAWN, WIDE, check_report
from sweep_folders import plan, usual_trials, write_sweep

from qa_accel.experiments import curve_page
from qa_accel.experiments.curve_results import LearningCurve, MetricCurve, Size
from qa_accel.experiments.power_law import fit_curve
from qa_accel.experiments.sweep_report import write_sweep_report
from qa_accel.reporting.html_page import render

pytest.importorskip("plotly", reason="reports need the extra report")

NARROW = WIDE | {"viewport": {"width": 360, "height": 780}}
DARK = NARROW | {"color_scheme": "dark"}


@pytest.fixture(scope="module")
def sweep_address(tmp_path_factory) -> str:
    found = usual_trials(40)
    best = sorted((one for one in found if one.state == "finished"), key=lambda one: -(one.value or 0))[:3]
    reruns = {one.number: [(one.value or 0) - less for less in (0.2, 0.9)] for one in best}
    folder = write_sweep(tmp_path_factory.mktemp("sweeps") / "mine", plan(40), found, reruns)
    write_sweep_report(folder)
    return (folder / "sweep.html").as_uri()


@pytest.fixture(scope="module")
def curve_address(tmp_path_factory) -> str:
    sizes_S, error_S = np.array([125, 250, 500, 1000, 2000]), np.array([0.40, 0.33, 0.27, 0.23, 0.2])
    resampled_RS = error_S + np.random.default_rng(0).normal(0, 0.01, (200, 1))
    curves = {
        metric: MetricCurve(
            metric=metric,
            scores=[[100 - 100 * error] for error in error_S],
            intervals=[(98 - 100 * error, 102 - 100 * error) for error in error_S],
            fit=fit_curve(sizes_S, error_S, resampled_RS, 300),
        )
        for metric in ("f1", "exact")
    }
    sizes = [Size(2000 // contexts, contexts, (4 * contexts,), (42,)) for contexts in sizes_S.tolist()]
    curve = LearningCurve(sizes, curves, True, "dev.json", 1200, 300)
    path = tmp_path_factory.mktemp("curves") / "learning_curve.html"
    path.write_text(render(curve_page.report(curve, {"learning_rate": 1e-3}, "python x")), encoding="utf-8")
    return path.as_uri()


def test_the_page_of_a_sweep_draws_every_figure_and_fetches_nothing(opened, sweep_address):
    """Breaks if a figure stays empty, or parallel coordinates need what the page's policy forbids (plotly's own do)."""
    page = opened(sweep_address, **WIDE)
    check_report(page)
    lines = page.locator("#figure-parallel svg g[class^=group-]")
    assert lines.count() == sum(one.value is not None for one in usual_trials(40))
    lines.last.locator("path.hit").hover(force=True)
    assert (
        page.evaluate("getComputedStyle(document.querySelector('#figure-parallel svg g:hover path')).strokeWidth")
        == "5px"
    )
    assert (lines.last.locator("title").text_content() or "").startswith("trial ")
    ticks = page.locator("#figure-parallel .axis").first.locator(".tick").all_text_contents()
    assert set(ticks) == {"1e-05", "0.0001", "0.001"}
    page.screenshot(path=str(artefacts() / "sweep-wide.png"), full_page=True)


def test_the_page_of_a_sweep_fits_a_narrow_screen_and_is_readable_in_the_dark(opened, sweep_address):
    """Breaks if the page scrolls sideways, or labels of the axes are dark on dark."""
    page = opened(sweep_address, **DARK)
    wait_until(page, ALL_DRAWN)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("document.querySelector('.parallel .wide').scrollWidth") > 600, (
        "its axes scroll in their own place"
    )
    for selector in (".parallel .name", ".parallel .tick", ".parallel .legend li"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    page.screenshot(path=str(artefacts() / "sweep-narrow-dark.png"), full_page=True)
    assert page.complaints == []


def test_the_page_of_a_learning_curve_has_whiskers_a_band_and_a_dashed_end(opened, curve_address):
    """Breaks if the intervals of the points are not drawn, or the extrapolation is not dashed."""
    page = opened(curve_address, **WIDE)
    check_report(page)
    assert page.locator("#figure-curve-f1 .errorbar").count() == 5
    dashes = page.evaluate(
        "[...document.querySelectorAll('#figure-curve-f1 .scatterlayer .js-line')].map((line) => getComputedStyle(line).strokeDasharray)"
    )
    assert sum(dash != "none" for dash in dashes) == 1
    labels = page.locator("#figure-curve-f1 .xtick").all_text_contents()
    assert "1,000" in labels and len(labels) >= 3
    page.screenshot(path=str(artefacts() / "learning-curve-wide.png"), full_page=True)


def test_the_page_of_a_learning_curve_fits_a_narrow_screen_in_the_dark(opened, curve_address):
    page = opened(curve_address, **DARK)
    wait_until(page, ALL_DRAWN)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.screenshot(path=str(artefacts() / "learning-curve-narrow-dark.png"), full_page=True)
    assert page.complaints == []
