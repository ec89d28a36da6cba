"""The report of `sample_report` in a browser; a stand-in of the hub."""

from collections.abc import Iterator

import pytest
from hub_stand_in import Hub, hub_stand_in, point_at
from huggingface_hub import constants
from report_checks import WIDE


@pytest.fixture(scope="session")
def sample_address(tmp_path_factory) -> str:
    from sample_report import sample_report

    from qa_accel.reporting.html_page import render

    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(sample_report()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def wide_page(browser, sample_address):
    """One page for many tests: reading a file of 5 MB takes two seconds."""
    from browsers import page_opener

    with page_opener(browser) as open_page:
        yield open_page(sample_address, **WIDE)


@pytest.fixture
def page(wide_page):
    """The page as if just opened, without filters."""
    wide_page.click("#explorer-filters button[type=reset]")
    wide_page.complaints.clear()
    yield wide_page
    assert wide_page.complaints == []


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    """A hub that this process uses, as the account ada."""
    with hub_stand_in() as found:
        for name in ("ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET"):
            monkeypatch.setattr(constants, name, getattr(constants, name))  # to be put back afterwards
        point_at(found.url)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token_here"))
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        yield found
