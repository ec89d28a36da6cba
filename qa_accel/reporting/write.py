"""A run's folder and its questions -> error_analysis.json and report.html in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qa_accel import files, run_layout
from qa_accel.reporting import contents
from qa_accel.reporting.blocks import Report
from qa_accel.reporting.html_page import render
from qa_accel.reporting.judged_run import JudgedRun


def write_analysis(folder: Path, run: JudgedRun) -> None:
    files.write_json(folder / run_layout.ERROR_ANALYSIS, run.analysis.as_dict())


def write_report(folder: Path, run: JudgedRun, defaults: Mapping[str, Any]) -> Report:
    """Both files; returns what the page shows."""
    report = contents.report(run, defaults)
    write_analysis(folder, run)
    write_page(folder / run_layout.REPORT, report)
    return report


def write_page(path: Path, report: Report) -> None:
    files.write_text(path, render(report))
