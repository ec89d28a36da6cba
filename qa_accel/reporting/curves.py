"""A judged run -> the figures of its report. What has more than MOST_POINTS points is aggregated first."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qa_accel.evaluation.confidence_figures import BINS, figures, risk_coverage
from qa_accel.evaluation.outcomes import F1, best_threshold, threshold_curve
from qa_accel.evaluation.score_tables import CONFIDENCE
from qa_accel.reporting.blocks import MOST_POINTS, Block, Curve, Figure, Table, Text
from qa_accel.reporting.judged_run import JudgedRun

LOGGED = (
    ("loss", "Loss", "loss", "The mean loss of each step's windows."),
    ("learning_rate", "Learning rate", "learning rate", ""),
    ("grad_norm", "Gradient norm", "gradient norm", "Before clipping."),
    ("windows_per_second", "Speed", "windows per second", "Without evaluations and checkpoints."),
)
EVALUATED = {
    "eval_f1": "F1",
    "eval_exact": "exact match",
    "eval_best_f1": "F1 at its best threshold",
    "eval_HasAns_f1": "F1, answerable",
    "eval_NoAns_exact": "exact match, unanswerable",
}


def training(metrics: Sequence[Mapping[str, Any]]) -> list[Block]:
    steps = [line for line in metrics if "loss" in line]
    blocks: list[Block] = []
    for key, title, unit, note in LOGGED:
        points = [(line["step"], line[key]) for line in steps if _is_number(line.get(key))]
        if points:
            blocks.append(_logged(key, title, unit, note, points))
    evaluations = [line for line in metrics if "eval_f1" in line]
    if evaluations:
        blocks.append(_evaluations(evaluations))
    return blocks or [Text("metrics.jsonl has no line that can be read.", is_warning=True)]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _logged(key: str, title: str, unit: str, note: str, points: Sequence[tuple[int, float]]) -> Figure:
    """Means of equal numbers of steps, with their range behind them."""
    step_N, value_N = (np.array(column, np.float64) for column in zip(*points))
    parts = np.array_split(np.arange(len(step_N)), min(MOST_POINTS, len(step_N)))
    x = [float(step_N[part].mean()) for part in parts]
    mean = Curve(unit, x, [float(value_N[part].mean()) for part in parts])
    curves = [mean]
    per_point = math.ceil(len(step_N) / len(parts))
    if per_point > 1 and key != "learning_rate":
        low, high = ([float(of(value_N[part])) for part in parts] for of in (np.min, np.max))
        curves.insert(0, Curve("lowest to highest", x, mean.y, "band", low, high))
    if per_point > 1:
        note = f"{note} Each point is the mean of {per_point} steps.".strip()
    return Figure(key.replace("_", "-"), title, "step", unit, curves, note=note)


def _evaluations(evaluations: Sequence[Mapping[str, Any]]) -> Figure:
    shown = _spread_out(evaluations)
    curves = [
        Curve(name, [line["step"] for line in shown], [line.get(key) for line in shown], dashed=key == "eval_best_f1")
        for key, name in EVALUATED.items()
        if any(_is_number(line.get(key)) for line in shown)
    ]
    best = max(evaluations, key=lambda line: line["eval_f1"])
    note = f"{len(evaluations)} evaluations; the highest F1, {best['eval_f1']:.2f}, is that of step {best['step']}."
    return Figure("evaluations", "Evaluations", "step", "%", curves, note=note)


def _spread_out(entries: Sequence[Any]) -> list[Any]:
    if len(entries) <= MOST_POINTS:
        return list(entries)
    return [entries[place] for place in np.linspace(0, len(entries) - 1, MOST_POINTS).round().astype(int)]


def threshold(run: JudgedRun) -> list[Block]:
    """Scores against the threshold, the chosen one marked."""
    outcomes = run.outcomes
    assert outcomes.null_odds_Q is not None and run.threshold is not None
    curve = threshold_curve(outcomes, MOST_POINTS)
    # single questions of extreme null odds would press the rest of the curve together
    low, high = np.quantile(outcomes.null_odds_Q, [0.005, 0.995])
    low, high = min(low, run.threshold, 0.0), max(high, run.threshold, 0.0)
    inside = (curve["threshold"] >= low) & (curve["threshold"] <= high)
    x = curve["threshold"][inside].tolist()
    names = {
        "f1": "F1",
        "exact": "exact match",
        "HasAns_f1": "F1, answerable",
        "NoAns_exact": "exact match, unanswerable",
    }
    curves = [
        Curve(name, x, curve[key][inside].tolist(), dashed=key in ("HasAns_f1", "NoAns_exact"))
        for key, name in names.items()
        if key in curve
    ]
    best, where = best_threshold(outcomes, F1)
    marks = {f"chosen {run.threshold:.3g}": run.threshold}
    if where is not None and where != run.threshold:
        marks[f"best {where:.3g}"] = where
    note = (
        "A question is answered with nothing where its null odds exceed the threshold. To the right more is answered: answerable "
        f"questions gain, unanswerable ones lose. F1 at the chosen threshold: {100 * run.f1_Q.mean():.2f}; the highest: {100 * best:.2f}."
    )
    figure = Figure("threshold", "Scores by threshold", "threshold (null odds)", "%", curves, marks, note, (0.0, 100.0))
    return [Text(f"Threshold {run.threshold:.4g}: {run.threshold_source}."), figure]


def confidence(run: JudgedRun) -> list[Block]:
    assert run.confidence_Q is not None
    p_Q, correct_Q = run.confidence_Q[run.judged_Q], run.exact_Q[run.judged_Q]
    said = figures(p_Q, correct_Q)
    of = f"{len(p_Q):,} questions" if run.judged_Q.all() else f"{len(p_Q):,} questions that calibration has not seen"
    rows = [(name, f"{100 * said[key]:.2f}") for key, name in CONFIDENCE.items() if key in said]
    return [
        Text(f"Confidence: {run.confidence_source}. Figures of {of}; right means exact match."),
        reliability(p_Q, correct_Q),
        coverage(p_Q, correct_Q),
        Table("Confidence in numbers", ("", "%"), rows),
    ]


def reliability(p_Q: np.ndarray, correct_Q: np.ndarray) -> Figure:
    """Bins of equal count, as the ECE has them."""
    order = np.argsort(p_Q, kind="stable")
    bins = np.array_split(order, min(BINS, len(order)))
    said, right = ([100 * float(values[part].mean()) for part in bins] for values in (p_Q, correct_Q))
    # two standard errors of a share (Wilson 1927, which stays within 0 and 100 %)
    ends = [_wilson(float(correct_Q[part].mean()), len(part)) for part in bins]
    curves = [
        Curve("as sure as right", [0.0, 100.0], [0.0, 100.0], dashed=True),
        Curve("95 % interval", said, right, "band", [100 * low for low, _ in ends], [100 * high for _, high in ends]),
        Curve(f"{len(bins)} groups of questions", said, right, "dots"),
    ]
    note = "Below the line the model is surer than it is right."
    return Figure(
        "reliability", "Reliability", "mean confidence, %", "right, %", curves, note=note, y_range=(0.0, 100.0)
    )


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def coverage(p_Q: np.ndarray, correct_Q: np.ndarray) -> Figure:
    points = risk_coverage(p_Q, correct_Q, points=MOST_POINTS)
    x = [100 * point["coverage"] for point in points]
    curve = Curve("wrong among the answered", x, [100 * point["risk"] for point in points])
    note = "If only the most confident answers are given, how many of them are wrong."
    return Figure("risk-coverage", "Risk and coverage", "answered, % of the questions", "wrong, %", [curve], note=note)
