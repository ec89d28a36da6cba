"""The finished runs of a learning curve -> a table on the console, learning_curve.json and learning_curve.html."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from qa_accel import files, run_layout
from qa_accel.experiments import curve_page
from qa_accel.experiments.curve_results import LearningCurve, as_dict, read_curve
from qa_accel.experiments.curve_runs import CurveRun
from qa_accel.reporting.console_tables import console_table
from qa_accel.reporting.write import write_page
from qa_accel.terminal import visible


def write_curve_report(
    folder: Path, runs: Sequence[CurveRun], recipe: Mapping[str, Any], command: str, console: Console
) -> None:
    """`recipe`: settings of the runs; `command`: what repeats them. Raises ValueError where a run's answers cannot be read."""
    curve = read_curve(runs)
    for each in curve.curves.values():
        console.print(console_table(curve_page.sizes_table(curve, each)))
        for line in (*curve_page.doubts(curve, each), curve_page.conclusion(curve, each)):
            console.print(visible(line))
    for line in chances_of_all(curve):
        console.print(line)
    files.write_json(folder / run_layout.LEARNING_CURVE, as_dict(curve))
    write_page(folder / run_layout.LEARNING_CURVE_PAGE, curve_page.report(curve, recipe, command))
    console.print(f"report: {visible(folder / run_layout.LEARNING_CURVE_PAGE)}")


def chances_of_all(curve: LearningCurve) -> list[str]:
    """What the intervals hold: a line for all metrics, or one each, with its name, where they differ."""
    said = {metric: text for metric, each in curve.curves.items() if (text := curve_page.chances(each.fit))}
    if len(set(said.values())) < 2:
        return list(said.values())[:1]
    return [f"{curve_page.NAMES[metric]}: {text}" for metric, text in said.items()]
