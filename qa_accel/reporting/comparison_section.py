"""Two sides of judged runs on the same questions -> the section that compares them, and comparison.json."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from qa_accel.answer_language import as_entry
from qa_accel.evaluation.bootstrap import LEAST_PARAGRAPHS
from qa_accel.evaluation.comparison import METRICS, Comparison, Difference, compare, difference_of
from qa_accel.evaluation.error_kinds import KINDS
from qa_accel.evaluation.outcomes import F1, best_threshold
from qa_accel.evaluation.question_features import FAMILIES, slices_of
from qa_accel.evaluation.significance import shown_p
from qa_accel.reporting.blocks import Block, Cell, Section, Table, Text, Tile, Tiles
from qa_accel.reporting.comparison_sides import Side, differing_settings, have_seeds, threshold_note, warnings
from qa_accel.reporting.judged_run import JudgedRun
from qa_accel.terminal import visible

NAMES = {
    "exact": "exact match",
    "f1": "F1",
    "f1_threshold_0": "F1 at threshold 0",
    "best_f1": "F1 at each one's best threshold",
}


def compare_sides(one: Side, other: Side) -> Comparison:
    run = one.first
    families = slices_of([question.features for question in run.analysis.questions])
    slices = {(family, value): np.array(rows) for family, values in families.items() for value, rows in values.items()}
    here, there = ([judged.outcomes.scores_at(judged.threshold) for judged in side.runs] for side in (one, other))
    with_seeds = have_seeds(one, other)
    found = compare(here, there, run.outcomes.paragraph_Q, slices, with_seeds=with_seeds)
    return replace(found, differences={**found.differences, **_at_equal_thresholds(one, other, with_seeds=with_seeds)})


def _at_equal_thresholds(one: Side, other: Side, *, with_seeds: bool) -> dict[str, Difference]:
    """Differences that thresholds cannot explain: without one, and with the best one for each run. Empty where a run has none."""
    if any(run.threshold is None for run in [*one.runs, *other.runs]):
        return {}

    def f1(metric: str, threshold_of: Callable[[JudgedRun], float]) -> Difference:
        here, there = ([run.outcomes.scores_at(threshold_of(run))[:, F1] for run in side.runs] for side in (one, other))
        return difference_of(metric, here, there, one.first.outcomes.paragraph_Q, with_seeds=with_seeds)

    return {"f1_threshold_0": f1("f1_threshold_0", lambda _: 0.0), "best_f1": f1("best_f1", _best_for_f1)}


def _best_for_f1(run: JudgedRun) -> float:
    where = best_threshold(run.outcomes, F1)[1]
    return -np.inf if where is None else where


def as_dict(comparison: Comparison, one: Side, other: Side, notes: Sequence[str]) -> dict[str, Any]:
    """Content of comparison.json."""
    return {
        "one": {"name": one.name, "runs": list(one.names)},
        "other": {"name": other.name, "runs": list(other.names)},
        "questions": comparison.questions,
        **as_entry(one.first.data.answer_language),
        "differences": {
            metric: {**asdict(each), "difference": each.difference, "beyond_chance": each.beyond_chance}
            for metric, each in comparison.differences.items()
        },
        "better": comparison.better,
        "worse": comparison.worse,
        "p_value": comparison.p_value,
        "slices": [asdict(each) for each in comparison.slices],
        "warnings": [*notes, *warnings(one, other)],
        "flips": [
            {"id": key, "better": bool(gain > 0)}
            for key, gain in zip(one.first.data.ids, _gain(one, other).tolist())
            if gain
        ],
    }


def _gain(one: Side, other: Side) -> np.ndarray:
    means = [np.mean([run.exact_Q for run in side.runs], axis=0) for side in (one, other)]
    return means[0] - means[1]


def section(comparison: Comparison, one: Side, other: Side, notes: Sequence[str]) -> Section:
    """`notes`: what was found when the questions of both were brought together."""
    f1, exact = comparison.differences["f1"], comparison.differences["exact"]
    tiles = [
        Tile(f"{NAMES[each.metric]}: difference", f"{each.difference:+.2f}", _with_level(_interval(each)))
        for each in (f1, exact)
    ]
    # with several runs of a side, a question may be right in some of them
    right = "{} more often right" if _has_several(one, other) else "only {} right"
    tiles += [
        Tile(right.format(one.name), f"{comparison.better:,}", "questions"),
        Tile(right.format(other.name), f"{comparison.worse:,}", f"sign test: p {shown_p(comparison.p_value)}"),
    ]
    blocks: list[Block] = [Text(line, is_warning=True) for line in [*notes, *warnings(one, other)]]
    blocks += [
        Text(verdict(f1, one, other)),
        Tiles(tiles),
        *_scores(comparison, one, other),
        *_seeds(comparison, one, other),
        _flips(one, other),
        *_slices(comparison, one, other),
        *_settings(one, other),
        Text(_whose_answers(one, other)),
    ]
    return Section("comparison", "Comparison", blocks)


def _has_several(one: Side, other: Side) -> bool:
    return max(len(one.runs), len(other.runs)) > 1


def _interval(difference: Difference) -> str:
    if difference.low is None or difference.high is None:
        return "one context: no interval"
    return f"{difference.low:+.2f} to {difference.high:+.2f}"


def _with_level(interval: str) -> str:
    return interval if "no interval" in interval else f"95 %: {interval}"


def _whose_answers(one: Side, other: Side) -> str:
    first = f"{one.first_name} and {other.first_name}"
    if _has_several(one, other):
        return (
            f"Single answers, here and among the questions to browse, are those of the first run of each side, {first}. All "
            f"other sections are of {one.first_name} alone."
        )
    return f"The questions to browse have the answers of {first}. All other sections are of {one.first_name} alone."


def verdict(f1: Difference, one: Side, other: Side) -> str:
    """One sentence that says no more than was tested; "better" where nothing that was tested speaks against it."""
    size = f"{abs(f1.difference):.2f} F1"
    higher, lower = (one, other) if f1.difference > 0 else (other, one)
    if f1.has_few_paragraphs:
        return (
            f"A difference of {size}: too few contexts to tell whether it is more than the choice of questions explains "
            f"({f1.paragraphs}, at least {LEAST_PARAGRAPHS} are needed)."
        )
    if f1.seeds is None:
        unknown = _why_no_seeds(one, other)
        if f1.beyond_chance:
            return f"{higher.name} is better by {size}, more than the choice of questions explains. {unknown}"
        return f"A difference of {size} is within what the choice of questions explains. {unknown}"
    if f1.beyond_chance:
        return f"{higher.name} is better by {size}, more than the choice of questions and the seeds explain."
    if f1.seeds.beyond_chance:
        return (
            f"{higher.name} is higher than {lower.name} by {size}: more than the seeds explain, but within what the choice of "
            "questions explains."
        )
    return f"A difference of {size} is within the noise of seeds (p {shown_p(f1.seeds.p_value)})."


def _why_no_seeds(one: Side, other: Side) -> str:
    if min(len(one.runs), len(other.runs)) == 1:
        return "Seeds are not compared: that needs two runs or more on each side."
    if have_seeds(one, other):
        return "Seeds are not compared: on neither side do the runs differ in their score."
    return "Seeds are not compared: runs of one side have the same answers."


def _scores(comparison: Comparison, one: Side, other: Side) -> list[Block]:
    rows: list[Sequence[Cell]] = [
        (NAMES[metric], f"{each.one:.2f}", f"{each.other:.2f}", f"{each.difference:+.2f}", _interval(each))
        for metric, each in comparison.differences.items()
    ]
    means = ", means of the runs" if _has_several(one, other) else ""
    columns = ("", one.name, other.name, "difference", "95 % over contexts")
    blocks: list[Block] = [Table(f"Scores on {comparison.questions:,} questions{means}", columns, rows)]
    if note := threshold_note(one, other):
        blocks.append(Text(note))
    if "best_f1" in comparison.differences:
        blocks.append(
            Text(
                "The best threshold of each run is chosen on these very questions; the interval takes it as fixed, which makes it a "
                "little too narrow."
            )
        )
    return blocks


def _seeds(comparison: Comparison, one: Side, other: Side) -> list[Block]:
    if not _has_several(one, other):
        return []
    rows: list[Sequence[Cell]] = []
    blocks: list[Block] = []
    for metric in reversed(METRICS):
        for side in (one, other):
            scores = [100 * float((run.f1_Q if metric == "f1" else run.exact_Q).mean()) for run in side.runs]
            spread = f"{np.std(scores, ddof=1):.2f}" if len(scores) > 1 else ""
            each = ", ".join(f"{score:.2f}" for score in scores)
            rows.append((NAMES[metric], side.name, len(scores), f"{np.mean(scores):.2f}", spread, each))
        seeds = comparison.differences[metric].seeds
        if seeds is not None:
            blocks.append(
                Text(
                    f"Over seeds the difference of {NAMES[metric]} is {seeds.difference:+.2f}, 95 % {seeds.low:+.2f} to "
                    f"{seeds.high:+.2f} (Welch's t-test, p {shown_p(seeds.p_value)})."
                )
            )
    return [Table("Scores by seed", ("", "side", "runs", "mean", "standard deviation", "each"), rows), *blocks]


def _flips(one: Side, other: Side) -> Table:
    """From which kind to which kind the answers of the first runs move."""
    kinds = [[question.kind for question in side.first.analysis.questions] for side in (one, other)]
    moves = Counter((there, here) for here, there in zip(*kinds) if here != there)
    rows = [(KINDS[there], KINDS[here], count) for (there, here), count in moves.most_common()]
    caption = "What became of the answers"
    if _has_several(one, other):
        caption += f" (first run of each side: {other.first_name}, {one.first_name})"
    if not rows:
        caption += ": all are of the same kind"
    return Table(caption, (other.first_name, one.first_name, "questions"), rows, open=len(rows) <= 8)


def _slices(comparison: Comparison, one: Side, other: Side) -> list[Block]:
    columns = ("slice", "questions", one.name, other.name, "better", "worse", "p", "")
    rows = [
        (
            f"{FAMILIES[each.family]}: {visible(each.value)}",
            each.questions,
            f"{each.one:.1f}",
            f"{each.other:.1f}",
            each.better,
            each.worse,
            "" if each.p_value is None else shown_p(each.p_value),
            "" if not each.beyond_chance else "higher" if each.better > each.worse else "lower",
        )
        for each in comparison.slices
    ]
    filters = [{"slice": f"{each.family}={each.value}"} for each in comparison.slices]
    count = sum(each.beyond_chance for each in comparison.slices)
    if not count:
        return [
            Text("No slice differs beyond chance (sign tests, corrected for the number of slices)."),
            Table("Exact match by slice", columns, rows, filters, open=False),
        ]
    return [
        Table("Slices that differ beyond chance (exact match)", columns, rows[:count], filters[:count]),
        Table("Exact match by slice: the rest", columns, rows[count:], filters[count:], open=False),
    ]


def _settings(one: Side, other: Side) -> list[Block]:
    rows = differing_settings(one, other)
    if rows is None:
        return []
    if not rows:
        return [Text("All settings of both are equal.")]
    shown = [tuple(map(visible, row)) for row in rows]
    return [Table("Settings that differ", ("setting", one.name, other.name), shown)]
