"""The trials of a sweep -> figures: values in the order of the trials, importance, parallel coordinates, one per parameter.

No curve has more than MOST_POINTS points: of more trials each point is the best of several in a row, or the best ones are shown
with a sample of the others.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from qa_accel.experiments.space import Parameter
from qa_accel.experiments.sweep_results import SweepResults, shown_param
from qa_accel.experiments.trials import PRUNED, Trial
from qa_accel.reporting.blocks import MOST_POINTS, Axis, Curve, Figure, Line, ParallelLines

QUARTERS = ("best quarter of the finished trials", "second quarter", "third quarter", "last quarter")
PRUNED_GROUP = "pruned, at the last evaluation"
MOST_PARAMETERS = 12
"""That get a figure of their own."""
MOST_TICKS = 12


def history(results: SweepResults) -> Figure:
    """Values by number of the trial, with the best so far."""
    finished = sorted(results.ranked, key=lambda trial: trial.number)
    pruned = [trial for trial in results.trials if trial.state == PRUNED and trial.value is not None]
    best = accumulate((trial.value or 0.0 for trial in finished), max)
    curves = [_in_rows("finished", finished), _in_rows(PRUNED_GROUP, pruned)]
    steps = _chunks(list(zip(finished, best)))
    so_far = Curve("best so far", [chunk[-1][0].number for chunk in steps], [chunk[-1][1] for chunk in steps])
    note = "The best so far rises with the number of trials even if all recipes are equally good."
    return Figure(
        "history",
        "Values in the order of the trials",
        "trial",
        results.plan.metric,
        [curve for curve in (*curves, so_far) if curve.x],
        note=note,
    )


def _chunks(rows: Sequence[Any]) -> list[Sequence[Any]]:
    size = math.ceil(len(rows) / MOST_POINTS) or 1
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _in_rows(name: str, trials: Sequence[Trial]) -> Curve:
    """Dots; of many trials the best of each few in a row."""
    chunks = _chunks(trials)
    chosen = [max(chunk, key=lambda trial: trial.value or 0.0) for chunk in chunks]
    several = f" (the best of each {len(chunks[0])} in a row)" if chunks and len(chunks[0]) > 1 else ""
    return Curve(name + several, [trial.number for trial in chosen], [trial.value for trial in chosen], "dots")


def importance(results: SweepResults) -> Figure:
    found = results.importances
    bars = Curve("share", [each.parameter for each in found], [100 * each.share for each in found], "bars")
    return Figure("importance", "What each parameter explains by itself", "", "% of the variance of the ranks", [bars])


def shown_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Of trials that are ordered from best to worst: all, or the better half of the places for the best, the rest a sample."""
    if len(trials) <= MOST_POINTS:
        return list(trials)
    half = MOST_POINTS // 2
    places = np.unique(np.linspace(half, len(trials) - 1, MOST_POINTS - half).round().astype(int))
    return [*trials[:half], *(trials[place] for place in places)]


def sampled_note(results: SweepResults) -> str:
    """What is left out of figures with a line or dot per trial; empty where nothing is."""
    if max(len(results.ranked), len(_pruned(results))) <= MOST_POINTS:
        return ""
    return f"Of each kind the {MOST_POINTS // 2} best trials are shown and {MOST_POINTS // 2} of the others."


def _pruned(results: SweepResults) -> list[Trial]:
    return [trial for trial in results.all_best_first if trial.state == PRUNED and trial.value is not None]


def by_parameter(results: SweepResults) -> list[Figure]:
    """Values by each parameter of the space, the most important first."""
    order = {each.parameter: place for place, each in enumerate(results.importances)}
    parameters = sorted(results.plan.space, key=lambda parameter: order.get(parameter.name, len(order)))
    figures = [_scatter(results, parameter, number) for number, parameter in enumerate(parameters[:MOST_PARAMETERS])]
    return [figure for figure in figures if figure.curves]


def _scatter(results: SweepResults, parameter: Parameter, number: int) -> Figure:
    curves = []
    for name, trials in (("finished", results.ranked), (PRUNED_GROUP, _pruned(results))):
        shown = [trial for trial in shown_trials(trials) if place_of(parameter, trial) is not None]
        if _is_category(parameter):  # names come on the axis in the order of the first dots
            shown.sort(key=lambda trial: place_of(parameter, trial) or 0.0)
        curves.append(Curve(name, [_x(parameter, trial) for trial in shown], [trial.value for trial in shown], "dots"))
    return Figure(
        f"parameter-{number}",
        parameter.name,
        parameter.name,
        results.plan.metric,
        [curve for curve in curves if curve.x],
        x_log=parameter.log and not _is_category(parameter),
    )


def _is_category(parameter: Parameter) -> bool:
    """Choices, and integers of so small a range that numbers between them would be on the axis."""
    if parameter.kind == "choice":
        return True
    low, high = parameter.low, parameter.high
    return parameter.kind == "int" and low is not None and high is not None and high - low <= MOST_TICKS


def _x(parameter: Parameter, trial: Trial) -> float | str:
    value = trial.params[parameter.name]
    return shown_param(value) if _is_category(parameter) else float(value)


def _number(parameter: Parameter, value: Any) -> float | None:
    """A value that a range can have; whoever edits a trial's file may write anything."""
    if type(value) not in (int, float) or not math.isfinite(value) or (parameter.log and value <= 0):
        return None
    return float(value)


def parallel(results: SweepResults) -> ParallelLines:
    """A line per trial through its parameters to its value; the best are drawn last."""
    space = list(results.plan.space)
    finished, pruned = shown_trials(results.ranked), shown_trials(_pruned(results))
    pruned = pruned[: MOST_POINTS - len(finished)]
    places = {trial.number: place for place, trial in enumerate(results.ranked)}
    values = [trial.value for trial in (*finished, *pruned) if trial.value is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)

    def line(trial: Trial, group: int) -> Line:
        value = trial.value or 0.0
        height = (value - low) / (high - low) if high > low else 0.5
        settings = ", ".join(f"{name} {shown_param(each)}" for name, each in trial.params.items())
        name = f"trial {trial.number}: {results.plan.metric} {value:.2f}; {settings}"
        return Line(name[:1000], [*(place_of(parameter, trial) for parameter in space), height], group)

    lines = [line(trial, len(QUARTERS)) for trial in reversed(pruned)]
    lines += [line(trial, 4 * places[trial.number] // len(places)) for trial in reversed(finished)]
    value_axis = Axis(results.plan.metric, _even_ticks(low, high) if high > low else [(0.5, f"{low:.4g}")])
    return ParallelLines(
        "parallel",
        "Each trial as a line",
        [*(Axis(parameter.name, ticks_of(parameter)) for parameter in space), value_axis],
        [*QUARTERS, PRUNED_GROUP],
        lines,
        note=f"Where the lines of the best trials meet, good values are. {sampled_note(results)}".strip(),
    )


def place_of(parameter: Parameter, trial: Trial) -> float | None:
    """On the parameter's axis, 0 to 1; None where the trial has no value that the parameter can have."""
    if parameter.name not in trial.params:
        return None
    value = trial.params[parameter.name]
    if parameter.kind == "choice":
        choices = list(map(_of_choice, parameter.choices))
        return _choice_place(choices.index(_of_choice(value)), len(choices)) if _of_choice(value) in choices else None
    number = _number(parameter, value)
    if number is None:
        return None
    low, high = _bounds(parameter)
    scaled = (math.log10(number) if parameter.log else number) - low
    return min(max(scaled / (high - low), 0.0), 1.0)


def _of_choice(value: Any) -> tuple[str, str]:
    return type(value).__name__, str(value)


def _choice_place(number: int, count: int) -> float:
    return number / (count - 1) if count > 1 else 0.5


def _bounds(parameter: Parameter) -> tuple[float, float]:
    assert parameter.low is not None and parameter.high is not None, "a range has bounds"
    low, high = float(parameter.low), float(parameter.high)
    return (math.log10(low), math.log10(high)) if parameter.log else (low, high)


def ticks_of(parameter: Parameter) -> list[tuple[float, str]]:
    """Choices, few integers, powers of ten, or five numbers at equal distances."""
    if parameter.kind == "choice":
        every = math.ceil(len(parameter.choices) / MOST_TICKS)
        named = list(enumerate(map(shown_param, parameter.choices)))[::every]
        return [(_choice_place(number, len(parameter.choices)), name) for number, name in named]
    low, high = _bounds(parameter)
    if _is_category(parameter) and not parameter.log:
        return [((number - low) / (high - low), str(number)) for number in range(round(low), round(high) + 1)]
    if not parameter.log:
        return _even_ticks(low, high)
    powers = [power for power in range(math.ceil(low), math.floor(high) + 1)]
    inner = [((power - low) / (high - low), f"{10.0**power:g}") for power in powers]
    ends = [(0.0, f"{10**low:.3g}"), (1.0, f"{10**high:.3g}")]
    return [*(end for end in ends if all(abs(end[0] - place) > 0.06 for place, _ in inner)), *inner]


def _even_ticks(low: float, high: float) -> list[tuple[float, str]]:
    return [(place, f"{low + place * (high - low):.4g}") for place in (0.0, 0.25, 0.5, 0.75, 1.0)]
