"""Scores of an ensemble and its members -> tables for the console."""

from collections.abc import Mapping
from typing import Any

from qa_accel.evaluation.comparison import Difference
from qa_accel.reporting.blocks import Table

SCORES = {"exact": "exact", "f1": "F1", "HasAns_f1": "F1, answerable", "NoAns_exact": "exact, unanswerable"}
INTERVALS = ("exact", "f1")
CONFIDENCE = {"confidence_ece": "calibration error", "confidence_auroc": "AUROC"}


def scores_table(
    members: Mapping[str, Mapping[str, Any]], mean: Mapping[str, Any], ensemble: Mapping[str, Any], questions: int
) -> Table:
    """A line for each member, their mean and the ensemble; percent."""
    rows = {**members, "members' mean": mean, "ensemble": ensemble}
    names = [name for name in SCORES | CONFIDENCE if all(name in row for row in rows.values())]
    columns = ["", *(SCORES.get(name) or CONFIDENCE[name] for name in names)]
    return Table(
        f"{questions:,} questions; each half of the contexts is judged with threshold and calibration of the other half",
        columns,
        [(name, *(f"{_percent(row, column):.2f}" for column in names)) for name, row in rows.items()],
    )


def _percent(row: Mapping[str, Any], name: str) -> float:
    return 100 * row[name] if name in CONFIDENCE else row[name]


def gains_table(scores: Mapping[str, Any], gains: Mapping[str, Mapping[str, Difference]]) -> Table:
    """The ensemble's scores with their intervals, and what they are more than others, in points."""
    rows = [("score", *(f"{scores[name]:.2f}{_interval(scores.get(f'{name}_interval'))}" for name in INTERVALS))]
    for over, found in gains.items():
        rows.append((f"gain over {over}", *map(_gain, found.values())))
    return Table("The ensemble, with 95 % intervals over contexts", ("", "exact", "F1"), rows)


def _interval(ends: Any) -> str:
    return "" if ends is None else f" ({ends[0]:.2f} to {ends[1]:.2f})"


def _gain(found: Difference) -> str:
    if found.low is None or found.high is None:
        return f"{found.difference:+.2f} (one context: no interval)"
    few = ", few contexts" if found.has_few_paragraphs else ""
    return f"{found.difference:+.2f} ({found.low:+.2f} to {found.high:+.2f}{few})"
