"""Scores of an ensemble and its members -> rich tables."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from qa_accel.evaluation.comparison import Difference
from qa_accel.terminal import visible

COLUMNS = {
    "exact": "exact (95 %)",
    "f1": "F1 (95 %)",
    "HasAns_f1": "F1, answerable",
    "NoAns_exact": "exact, unanswerable",
    "thresholds": "thresholds",
    "confidence_ece": "calibration error",
    "confidence_auroc": "correctness (AUROC)",
}


def scores_table(members: Mapping[str, Mapping[str, Any]], ensemble: Mapping[str, Any], questions: int) -> Table:
    """A line for each member, their mean and the ensemble; percent."""
    table = Table(
        title=f"{questions:,} questions, each half of the contexts with threshold and calibration of the other half",
        title_justify="left",
    )
    table.add_column("")
    columns = [name for name in COLUMNS if name in ensemble and all(name in row for row in members.values())]
    for name in columns:
        table.add_column(COLUMNS[name], justify="right")
    for name, row in members.items():
        table.add_row(visible(name), *(_cell(row, column) for column in columns))
    mean = {name: sum(row[name] for row in members.values()) / len(members) for name in columns if name != "thresholds"}
    table.add_section()
    table.add_row("the members' mean", *(_cell(mean, column) for column in columns))
    table.add_row("the ensemble", *(_cell(ensemble, column) for column in columns), style="bold")
    return table


def _cell(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    if name == "thresholds":
        return " / ".join(f"{each:.3g}" for each in row[name])
    value = 100 * row[name] if name.startswith("confidence") else row[name]
    interval = row.get(f"{name}_interval")
    return f"{value:.2f}" if interval is None else f"{value:.2f} ({interval[0]:.2f}–{interval[1]:.2f})"


def gains_table(gains: Mapping[str, Mapping[str, Difference]]) -> Table:
    """The ensemble minus others, in points of percent."""
    table = Table(title="gain of the ensemble, in points", title_justify="left")
    table.add_column("over")
    for name in ("exact (95 %)", "F1 (95 %)"):
        table.add_column(name, justify="right")
    for over, found in gains.items():
        table.add_row(visible(over), *map(_gain, found.values()))
    return table


def _gain(found: Difference) -> str:
    if found.low is None or found.high is None:
        return f"{found.difference:+.2f} (one context: no interval)"
    few = "; few contexts" if found.has_few_paragraphs else ""
    return f"{found.difference:+.2f} ({found.low:+.2f} to {found.high:+.2f}{few})"
