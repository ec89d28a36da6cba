"""A finished run -> report.html and error_analysis.json in its folder, as `scripts/report.py` writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qa_accel.data.splits import Split
from qa_accel.reporting.blocks import Report
from qa_accel.reporting.judged_run import judge
from qa_accel.reporting.run_data import GivenData, RunData, longest_answer, source_of
from qa_accel.reporting.run_files import read_run
from qa_accel.reporting.write import write_report


def write_final_report(folder: Path, split: Split, defaults: Mapping[str, Any]) -> Report:
    """Of the run in `folder`, evaluated on `split`; `defaults` of its settings. For one process."""
    run = read_run(folder)
    data = RunData.of(
        split.questions,
        split.windows,
        source=source_of(run, GivenData(), "validation"),
        max_answer_length=longest_answer(run),
        audit=split.report,
        answer_language=split.answer_language,
    )
    return write_report(folder, judge(run, data), defaults)
