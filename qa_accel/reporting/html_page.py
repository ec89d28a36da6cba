"""A report -> one HTML file that needs nothing else: no server, no network, no other file.

The content security policy lets only the file's own scripts run, by their hashes, and lets nothing be fetched. Texts of the data
are escaped in HTML (`html_blocks`) or are JSON that the script shows as text (`page_data`).
"""

import base64
import hashlib
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from qa_accel.reporting.blocks import Figure, ParallelLines, Report
from qa_accel.reporting.escaping import escaped
from qa_accel.reporting.html_blocks import section_html, warnings_of
from qa_accel.reporting.page_data import explorer_data, figures_data, fitting, script_json

PARTS = Path(__file__).with_name("page")
MOST_BYTES = 6_000_000
"""Of the file. Questions are left out of the explorer to stay below it."""


def render(report: Report) -> str:
    """The whole file, to be written as UTF-8. ValueError where plotly is not installed."""
    scripts = [_in_script(text) for text in (plotly_library(), _part("report.js"), _part("explorer.js"))]
    ids = [section.id for section in report.sections]
    assert len({*ids, "explorer"}) == len(ids) + 1, "ids of sections are unique, and explorer is the page's own"
    blocks = [block for section in report.sections for block in section.blocks]
    ids = [block.id for block in blocks if isinstance(block, Figure | ParallelLines)]
    assert len(set(ids)) == len(ids), "ids of figures are unique"
    figures = [block for block in blocks if isinstance(block, Figure)]
    data = {"figures": figures_data(figures)}
    before, after = _before_data(report, scripts), _after_data(scripts)
    if report.explorer is not None:
        room = MOST_BYTES - len((before + script_json(data) + after).encode()) - 1000
        explorer = fitting(report.explorer, room)
        left_out = len(report.explorer.questions) - len(explorer.questions)
        data["explorer"] = explorer_data(explorer) | {"left_out": left_out}
        if left_out:  # no row may show a question that is not there
            before = _before_data(replace(report, explorer=explorer), scripts)
    return before + script_json(data) + after


def plotly_library() -> str:
    """The text of plotly's JavaScript."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        message = "the report's figures need the package plotly, which is not installed: pip install 'qa-accel[report]'"
        raise ValueError(message) from error
    return get_plotlyjs()


def _before_data(report: Report, scripts: list[str]) -> str:
    sections = "\n".join(section_html(section, report.explorer) for section in report.sections)
    explorer = _part("explorer.html") if report.explorer is not None else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escaped(report.title)}</title>
<style>
{_part("report.css")}</style>
</head>
<body>
<a class="skip" href="#report-content">Skip to the content</a>
<header><h1 dir="auto">{escaped(report.title)}</h1><p class="subtitle" dir="auto">{escaped(report.subtitle)}</p></header>
<div class="columns">
{_contents_html(report)}
<main id="report-content" tabindex="-1">
<noscript><p class="warning">The figures and the list of questions need JavaScript, which is off here.</p></noscript>
{sections}
{explorer}</main>
</div>
<footer>Made by qa-accel. This file loads nothing from anywhere. In a figure, drag to enlarge a part; double-click to go back.</footer>
<script type="application/json" id="report-data">"""


def _after_data(scripts: list[str]) -> str:
    return "</script>\n" + "\n".join(f"<script>{script}</script>" for script in scripts) + "\n</body>\n</html>\n"


def _contents_html(report: Report) -> str:
    entries = []
    for section in report.sections:
        count = warnings_of(section)
        badge = f' <span class="count">{count} warning{"s" if count > 1 else ""}</span>' if count else ""
        entries.append(f'<li><a href="#{escaped(section.id)}">{escaped(section.title)}</a>{badge}</li>')
    if report.explorer is not None:
        entries.append('<li><a href="#explorer">Questions</a></li>')
    return f'<nav class="contents" aria-label="Contents"><ul>{"".join(entries)}</ul></nav>'


def _policy(scripts: list[str]) -> str:
    """Styles may be inline: plotly sets some on its elements."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def _in_script(text: str) -> str:
    """JavaScript whose strings cannot end the element that it is in, nor hide the element's end."""
    return re.sub("</(?=script)", r"<\\/", text, flags=re.IGNORECASE).replace("<!--", r"\x3c!--").replace("\r\n", "\n")


@cache
def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")
