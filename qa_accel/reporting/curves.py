"""A judged run -> the figures of its report. What has more than MOST_POINTS points is aggregated first."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qa_accel.evaluation.confidence_figures import BINS, figures, risk_coverage
from qa_accel.evaluation.error_kinds import KINDS
from qa_accel.evaluation.outcomes import F1, Outcomes, best_threshold, threshold_curve
from qa_accel.evaluation.score_tables import CONFIDENCE
from qa_accel.inference.answer_lists import NULL_ODDS_WITHOUT_SPAN
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
    """What metrics.jsonl has; a line or a value of it that is no number is left out, and said where a figure lacks it."""
    metrics = [line for line in metrics if _is_number(line.get("step"))]
    steps = [line for line in metrics if "loss" in line]
    blocks: list[Block] = []
    for key, title, unit, note in LOGGED:
        points = [(line["step"], line[key]) for line in steps if _is_number(line.get(key))]
        # the gradient norm of a step that is not measured is null
        unfit = sum(line.get(key) is not None for line in steps) - len(points)
        if unfit:
            note = f"{note} {unfit:,} of {len(steps):,} steps are left out: their value is no finite number.".strip()
        if points:
            blocks.append(_logged(key, title, unit, note, points))
        elif unfit:
            blocks.append(Text(f"{title}: no value of {unfit:,} steps is a finite number.", is_warning=True))
    evaluations = [line for line in metrics if any(_is_number(line.get(key)) for key in EVALUATED)]
    if evaluations:
        blocks.append(_evaluations(evaluations))
    return blocks or [Text("metrics.jsonl has no line that can be read.", is_warning=True)]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _logged(key: str, title: str, unit: str, note: str, points: Sequence[tuple[int, float]]) -> Figure:
    """Means of as equal numbers of steps as there can be, with their range behind them."""
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
        up_to = "" if len(step_N) % len(parts) == 0 else "up to "
        note = f"{note} Each point is the mean of {up_to}{per_point} steps.".strip()
    return Figure(key.replace("_", "-"), title, "step", unit, curves, note=note)


def _evaluations(evaluations: Sequence[Mapping[str, Any]]) -> Figure:
    shown = _spread_out(evaluations)
    curves = [
        Curve(
            name,
            [line["step"] for line in shown],
            [line[key] if _is_number(line.get(key)) else None for line in shown],
            dashed=key == "eval_best_f1",
        )
        for key, name in EVALUATED.items()
        if any(_is_number(line.get(key)) for line in shown)
    ]
    note = f"{len(evaluations)} evaluations" if len(evaluations) > 1 else "1 evaluation"
    scored = [line for line in evaluations if _is_number(line.get("eval_f1"))]
    if scored:
        best = max(scored, key=lambda line: line["eval_f1"])
        note += f"; the highest F1, {best['eval_f1']:.2f}, is that of step {best['step']}"
    return Figure("evaluations", "Evaluations", "step", "%", curves, note=f"{note}.")


def _spread_out(entries: Sequence[Any]) -> list[Any]:
    if len(entries) <= MOST_POINTS:
        return list(entries)
    return [entries[place] for place in np.linspace(0, len(entries) - 1, MOST_POINTS).round().astype(int)]


def threshold(run: JudgedRun) -> list[Block]:
    """Scores against the threshold, the chosen one marked where it is among the questions' null odds, else in words."""
    outcomes = run.outcomes
    assert outcomes.null_odds_Q is not None and run.threshold is not None
    source = Text(f"Threshold {run.threshold:.4g}: {run.threshold_source}.")
    best, where = best_threshold(outcomes, F1)
    marks, words = {}, []
    drawn = _drawn_range(outcomes.null_odds_Q, run.threshold)
    for name, at in (("chosen", run.threshold), ("best", where)):
        if at is None or (name == "best" and at == run.threshold):
            continue
        if drawn is not None and drawn[0] <= at <= drawn[1]:
            marks[f"{name} {at:.3g}"] = at
        else:
            words.append(f"The {name} threshold, {at:.3g}, answers {_share_answered(outcomes, at)}.")
    if drawn is None:
        return [source, Text(" ".join(["No question has null odds to draw scores against.", *words]))]
    curve = threshold_curve(outcomes, MOST_POINTS)
    inside = (curve["threshold"] >= drawn[0]) & (curve["threshold"] <= drawn[1])
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
    note = (
        "A question is answered with nothing where its null odds exceed the threshold. To the right more is answered: answerable "
        f"questions gain, unanswerable ones lose. F1 at the chosen threshold: {100 * run.f1_Q.mean():.2f}; the highest: {100 * best:.2f}."
    )
    note = " ".join([note, *words])
    return [
        source,
        Figure("threshold", "Scores by threshold", "threshold (null odds)", "%", curves, marks, note, (0.0, 100.0)),
    ]


def _drawn_range(null_odds_Q: np.ndarray, chosen: float) -> tuple[float, float] | None:
    """Where nearly all null odds are, and the chosen threshold and 0 if they are not far from there; None where there are none.

    Single questions of extreme null odds would press the rest of the curve together, and questions without any span have no odds.
    """
    odds = null_odds_Q[np.isfinite(null_odds_Q) & (null_odds_Q < NULL_ODDS_WITHOUT_SPAN)]
    if not len(odds):
        return None
    low, high = float(np.quantile(odds, 0.005, method="lower")), float(np.quantile(odds, 0.995, method="higher"))
    far = max(high - low, 1.0)
    near = [at for at in (chosen, 0.0) if low - far <= at <= high + far]
    return min([low, *near]), max([high, *near])


def _share_answered(outcomes: Outcomes, threshold: float) -> str:
    answered, total = int(outcomes.answered_Q(threshold).sum()), len(outcomes.ids)
    return (
        "every question" if answered == total else f"{answered:,} of {total:,} questions" if answered else "no question"
    )


def kinds(run: JudgedRun) -> Figure:
    """Wrong answers by kind, the most frequent kind first."""
    found = {kind: count for kind, count in run.analysis.kinds.items() if count and kind != "right"}
    most = sorted(found, key=lambda kind: -found[kind])
    bars = Curve("wrong answers", [KINDS[kind] for kind in most], [found[kind] for kind in most], "bars")
    return Figure("kinds", "Wrong answers by kind", "", "questions", [bars])


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
