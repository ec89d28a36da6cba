"""A learning curve -> the sections of learning_curve.html: what more data would give, the curve, the sizes, what was run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qa_accel.evaluation.bootstrap import LEAST_PARAGRAPHS
from qa_accel.experiments.curve_results import MORE, LearningCurve, MetricCurve, forecast
from qa_accel.experiments.power_law import LEAST_SIZES, CurveFit
from qa_accel.reporting.blocks import Block, Cell, Code, Curve, Figure, Report, Section, Table, Text, Tile, Tiles
from qa_accel.reporting.local_places import PER_RUN, public, spelled

POINTS = 60
"""Of a fitted curve."""
NAMES = {"f1": "F1", "exact": "exact match"}


def report(curve: LearningCurve, recipe: Mapping[str, Any], command: str) -> Report:
    """`recipe`: settings of the training runs; `command`: what repeats all of it."""
    sizes = ", ".join(f"1/{size.fraction}" if size.fraction > 1 else "all" for size in curve.sizes)
    return Report(
        title="Learning curve",
        subtitle=f"{sizes} of {curve.sizes[-1].contexts:,} training contexts, evaluated on {curve.source}",
        sections=[
            _section(curve, "f1"),
            _section(curve, "exact"),
            _runs(curve, recipe, command),
        ],
    )


def _section(curve: LearningCurve, metric: str) -> Section:
    each = curve.curves[metric]
    warnings = [Text(text, is_warning=True) for text in doubts(curve, each)]
    verdict = Text(f"{conclusion(curve, each)} {chances(each.fit)}".strip())
    blocks: list[Block] = [*warnings, _tiles(curve, each), verdict, figure(curve, each), sizes_table(curve, each)]
    return Section(metric, NAMES[metric][0].upper() + NAMES[metric][1:], blocks)


def _tiles(curve: LearningCurve, each: MetricCurve) -> Tiles:
    name = NAMES[each.metric]
    low, high = each.intervals[-1]
    largest = "all data" if curve.sizes[-1].fraction == 1 else f"1/{curve.sizes[-1].fraction} of the data"
    tiles = [Tile(f"{name}, {largest}", f"{each.means[-1]:.2f}", f"95 %: {low:.2f} to {high:.2f}")]
    if each.fit is not None:
        found = forecast(curve.sizes[-1].contexts, each.fit)
        low, high = each.fit.exponent_interval
        tiles += [
            Tile(f"{name}, {MORE} times that", f"{found.score:.2f}", f"95 %: {found.low:.2f} to {found.high:.2f}"),
            Tile("gain", f"{found.gain:+.2f}", f"95 %: {found.gain_low:+.2f} to {found.gain_high:+.2f}"),
            Tile("exponent b", f"{each.fit.b:.2f}", f"95 %: {low:.2f} to {high:.2f}"),
        ]
    return Tiles(tiles)


def conclusion(curve: LearningCurve, each: MetricCurve) -> str:
    """What more data would give, a sentence or two."""
    if each.fit is None:
        return f"{len(curve.sizes)} sizes are too few for a curve: at least {LEAST_SIZES} are needed."
    found, fit = forecast(curve.sizes[-1].contexts, each.fit), each.fit
    formula = f"error = {100 * fit.a:.4g} % * contexts ^ -{fit.b:.3f}" + (f" + {100 * fit.c:.2f} %" if fit.c else "")
    text = (
        f"{MORE} times the largest part ({found.contexts:,} contexts) would give {NAMES[each.metric]} {found.score:.2f} "
        f"({found.low:.2f} to {found.high:.2f}), a gain of {found.gain:+.2f} ({found.gain_low:+.2f} to {found.gain_high:+.2f}), "
        f"by the law {formula}."
    )
    if found.gain_low < 0.05:
        text += " More data of the same kind may give nothing."
    return text


def chances(fit: CurveFit | None) -> str:
    """What the intervals hold."""
    if fit is None:
        return ""
    of_data = "Intervals of 95 % hold the chance of the validation data, whose contexts are resampled"
    of_runs = {
        "seeds": ", and the luck of seeds and parts, by the runs of one size.",
        "residuals": ", and the luck of seeds and parts, estimated from the distances between points and curve; "
        "--seeds 3 measures it.",
        "unknown": "; the luck of seeds and parts is not in them, since nothing shows it: take more sizes or --seeds 3.",
    }
    return f"{of_data}{of_runs[fit.noise.source]} That the law goes on beyond the data is an assumption."


def doubts(curve: LearningCurve, each: MetricCurve) -> list[str]:
    """Why the curve should not be believed."""
    found = []
    if curve.paragraphs < LEAST_PARAGRAPHS:
        found.append(
            f"The validation data has {curve.paragraphs} contexts, too few for intervals that can be believed."
        )
    fit = each.fit
    if fit is None:
        return [f"{len(curve.sizes)} sizes are too few for a curve, so nothing is fitted.", *found]
    if fit.a == 0:
        found.append("The error does not fall with the data: the best law is a constant. Nothing can be forecast.")
    elif fit.explained is None or fit.is_poor:
        share = 0.0 if fit.explained is None else 100 * fit.explained
        found.append(
            f"The fit is poor: the law explains {share:.0f} % of the differences between sizes, and the farthest point is "
            f"{100 * fit.largest_residual:.2f} from it. Do not trust what it forecasts."
        )
    if len(curve.sizes) == LEAST_SIZES:
        found.append("A law of three numbers goes through any three falling points: nothing shows whether it holds.")
    return found


def figure(curve: LearningCurve, each: MetricCurve) -> Figure:
    """Points with intervals, the law with its band through the data, dashed beyond."""
    contexts, curves = curve.contexts_S, []
    if each.fit is not None:
        inside = np.geomspace(contexts[0], contexts[-1], POINTS)
        beyond = np.geomspace(contexts[-1], MORE * contexts[-1], POINTS // 4)
        curves = [
            _band("fitted law", each.fit, inside),
            _band(f"up to {MORE} times the data", each.fit, beyond, dashed=True),
        ]
    low, high = zip(*each.intervals)
    x = [int(size) for size in contexts]
    curves.append(Curve("measured, mean of the runs", x, each.means, "dots", low, high))
    if any(len(runs) > 1 for runs in each.scores):
        pairs = [(size, score) for size, runs in zip(x, each.scores) for score in runs]
        curves.append(Curve("single runs", [size for size, _ in pairs], [score for _, score in pairs], "dots"))
    return Figure(
        f"curve-{each.metric}",
        f"{NAMES[each.metric][0].upper()}{NAMES[each.metric][1:]} by the size of the training data",
        "training contexts",
        f"{NAMES[each.metric]}, %",
        curves,
        note="Whiskers and bands are intervals of 95 %.",
        x_log=True,
    )


def _band(name: str, fit: CurveFit, size_X: np.ndarray, *, dashed: bool = False) -> Curve:
    score_X, interval_X2 = 100 - 100 * fit.at(size_X), 100 - 100 * fit.interval_at(size_X)
    high, low = interval_X2.T.tolist()
    return Curve(name, size_X.tolist(), score_X.tolist(), "band", low, high, dashed=dashed)


def sizes_table(curve: LearningCurve, each: MetricCurve) -> Table:
    rows: list[Sequence[Cell]] = []
    for size, runs, mean, (low, high) in zip(curve.sizes, each.scores, each.means, each.intervals):
        deviation = float(np.std(runs, ddof=1)) if len(runs) > 1 else None
        by_law = None if each.fit is None else 100 - 100 * float(each.fit.at(np.array([size.contexts]))[0])
        name = f"1/{size.fraction}" if size.fraction > 1 else "all"
        questions = round(float(np.mean(size.questions)))
        row = [name, size.contexts, questions, len(runs), mean, f"{low:.2f} to {high:.2f}", deviation, by_law]
        rows.append(row)
    if each.fit is not None:
        found = forecast(curve.sizes[-1].contexts, each.fit)
        interval = f"{found.low:.2f} to {found.high:.2f}"
        rows.append([f"{MORE} times, forecast", found.contexts, None, 0, None, interval, None, found.score])
    columns = ("part", "contexts", "questions", "runs", "score", "95 % interval", "std of runs", "by the law")
    return Table(f"{NAMES[each.metric][0].upper()}{NAMES[each.metric][1:]} at each size", columns, rows)


def _runs(curve: LearningCurve, recipe: Mapping[str, Any], command: str) -> Section:
    threshold = (
        "Scores are those at the threshold that suits the validation data best, found again in every resample."
        if curve.has_threshold
        else "Every question has an answer, so scores have no threshold."
    )
    steps = (
        "All sizes are trained for the same number of steps."
        if recipe.get("max_train_steps")
        else "Every size is trained for the same number of epochs, so that a smaller part also gets fewer steps: a small "
        "part that needs more epochs makes the curve look steeper than it is."
    )
    shown = public(recipe, [name for name in recipe if name not in PER_RUN])
    rows = [(name, spelled(name, value)) for name, value in shown.items()]
    text = f"{threshold} {steps} The parts hold whole contexts, and each part all of the smaller ones."
    blocks: list[Block] = [Text(text), Code(command), Table("Settings of all runs", ("setting", "value"), rows)]
    return Section("runs", "What was run", blocks)
