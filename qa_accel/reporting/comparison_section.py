"""Two sides of judged runs on the same questions -> the section that compares them, and what must be known before.

A side is one run, or several that differ in their seed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qa_accel.evaluation.comparison import Comparison, Difference, compare
from qa_accel.evaluation.error_kinds import KINDS
from qa_accel.evaluation.question_features import FAMILIES, slices_of
from qa_accel.reporting.blocks import Block, Cell, Section, Table, Text, Tile, Tiles
from qa_accel.reporting.judged_run import JudgedRun
from qa_accel.reporting.local_places import without_place
from qa_accel.terminal import visible

NAMES = {"exact": "exact match", "f1": "F1"}
DECIDES_SCORES = ("version_2_with_negative", "max_answer_length", "n_best_size", "min_confidence")
"""Settings that make scores of two runs hard to compare."""
PER_RUN = frozenset({"output_dir", "overwrite_output_dir", "cache_dir", "resume_from_checkpoint", "hub_model_id"})


@dataclass(frozen=True, eq=False)
class Side:
    name: str
    runs: Sequence[JudgedRun]
    """Of equal questions, in equal order."""

    @property
    def first(self) -> JudgedRun:
        return self.runs[0]


def compare_sides(one: Side, other: Side) -> Comparison:
    run = one.first
    families = slices_of([question.features for question in run.analysis.questions])
    slices = {(family, value): np.array(rows) for family, values in families.items() for value, rows in values.items()}
    here, there = ([judged.outcomes.scores_at(judged.threshold) for judged in side.runs] for side in (one, other))
    return compare(here, there, run.outcomes.paragraph_Q, slices)


def as_dict(comparison: Comparison, one: Side, other: Side, notes: Sequence[str]) -> dict[str, Any]:
    """Content of comparison.json."""
    return {
        "one": {"name": one.name, "runs": [run.name for run in one.runs]},
        "other": {"name": other.name, "runs": [run.name for run in other.runs]},
        "questions": comparison.questions,
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
        Tile(
            f"{NAMES[each.metric]}: difference", f"{each.difference:+.2f}", f"95 %: {each.low:+.2f} to {each.high:+.2f}"
        )
        for each in (f1, exact)
    ]
    tiles += [
        Tile(f"only {visible(one.name)} right", f"{comparison.better:,}", "questions"),
        Tile(f"only {visible(other.name)} right", f"{comparison.worse:,}", f"sign test: p {_p(comparison.p_value)}"),
    ]
    blocks: list[Block] = [Text(line, is_warning=True) for line in [*notes, *warnings(one, other)]]
    blocks += [
        Text(verdict(f1, one, other)),
        Tiles(tiles),
        _scores(comparison, one, other),
        *_seeds(comparison, one, other),
        _flips(one, other),
        *_slices(comparison, one, other),
        *_settings(one, other),
    ]
    return Section("comparison", "Comparison", blocks)


def verdict(f1: Difference, one: Side, other: Side) -> str:
    """One sentence that says no more than was tested."""
    size = f"{abs(f1.difference):.2f} F1"
    better, worse = (one, other) if f1.difference > 0 else (other, one)
    if f1.seeds is None:
        unknown = " Seeds are not compared: that needs two runs or more on each side."
        if f1.beyond_chance:
            return f"{better.name} is better by {size}, more than the choice of questions explains.{unknown}"
        return f"A difference of {size} is within what the choice of questions explains.{unknown}"
    if f1.beyond_chance:
        return f"{better.name} is better by {size}, more than the choice of questions and the seeds explain."
    if f1.seeds.beyond_chance:
        return f"{better.name} is better than {worse.name} by {size}: beyond the seeds, but within the choice of questions."
    return f"A difference of {size} is within the noise of seeds (p {_p(f1.seeds.p_value)})."


def warnings(one: Side, other: Side) -> list[str]:
    """What makes the difference of both something else than a difference of models."""
    first, second = one.first, other.first
    found = []
    if first.threshold != second.threshold:
        found.append(
            f"The thresholds differ: {_threshold(first)} for {one.name}, {_threshold(second)} for {other.name}. A model with a tuned "
            "threshold has an advantage that is not the model's."
        )
    if first.version_2_with_negative != second.version_2_with_negative:
        with_negative = one.name if first.version_2_with_negative else other.name
        found.append(f'Only {with_negative} may answer with "no answer".')
    for setting in DECIDES_SCORES[1:]:
        values = [run.files.settings.get(setting) for run in (first, second)]
        if first.files.settings and second.files.settings and values[0] != values[1]:
            found.append(f"{setting} is {values[0]} for {one.name} and {values[1]} for {other.name}.")
    return found


def _threshold(run: JudgedRun) -> str:
    return run.threshold_source if run.threshold is None else f"{run.threshold:.4g} ({run.threshold_source})"


def _scores(comparison: Comparison, one: Side, other: Side) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            NAMES[each.metric],
            f"{each.one:.2f}",
            f"{each.other:.2f}",
            f"{each.difference:+.2f}",
            f"{each.low:+.2f} to {each.high:+.2f}",
        )
        for each in comparison.differences.values()
    ]
    columns = ("", visible(one.name), visible(other.name), "difference", "95 % over contexts")
    return Table(f"Scores on {comparison.questions:,} questions", columns, rows)


def _seeds(comparison: Comparison, one: Side, other: Side) -> list[Block]:
    if max(len(one.runs), len(other.runs)) == 1:
        return []
    rows: list[Sequence[Cell]] = []
    for side in (one, other):
        f1 = [100 * float(run.f1_Q.mean()) for run in side.runs]
        spread = f"{np.std(f1, ddof=1):.2f}" if len(f1) > 1 else ""
        rows.append(
            (visible(side.name), len(f1), f"{np.mean(f1):.2f}", spread, ", ".join(f"{each:.2f}" for each in f1))
        )
    blocks: list[Block] = [Table("F1 by seed", ("", "runs", "mean", "standard deviation", "each"), rows)]
    seeds = comparison.differences["f1"].seeds
    if seeds is not None:
        blocks.append(
            Text(
                f"Over seeds the difference of F1 is {seeds.difference:+.2f}, 95 % {seeds.low:+.2f} to {seeds.high:+.2f} "
                f"(Welch's t-test, p {_p(seeds.p_value)})."
            )
        )
    return blocks


def _flips(one: Side, other: Side) -> Table:
    """From which kind to which kind the answers of the first runs move."""
    kinds = [[question.kind for question in side.first.analysis.questions] for side in (one, other)]
    moves = Counter((there, here) for here, there in zip(*kinds) if here != there)
    rows = [(KINDS[there], KINDS[here], count) for (there, here), count in moves.most_common()]
    caption = "What became of the answers" if rows else "What became of the answers: all are of the same kind"
    return Table(caption, (visible(other.name), visible(one.name), "questions"), rows, open=len(rows) <= 8)


def _slices(comparison: Comparison, one: Side, other: Side) -> list[Block]:
    columns = ("slice", "questions", visible(one.name), visible(other.name), "better", "worse", "p", "")
    rows = [
        (
            f"{FAMILIES[each.family]}: {visible(each.value)}",
            each.questions,
            f"{each.one:.1f}",
            f"{each.other:.1f}",
            each.better,
            each.worse,
            "" if each.p_value is None else _p(each.p_value).removeprefix("= "),
            "" if not each.beyond_chance else "better" if each.better > each.worse else "worse",
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
    first, second = one.first.files.settings, other.first.files.settings
    if not first or not second:
        return []
    rows = [
        (name, visible(_shown(first, name)), visible(_shown(second, name)))
        for name in dict.fromkeys([*first, *second])
        if name not in PER_RUN and first.get(name) != second.get(name)
    ]
    if not rows:
        return [Text("All settings of both are equal.")]
    return [Table("Settings that differ", ("setting", visible(one.name), visible(other.name)), rows)]


def _shown(settings: Mapping[str, Any], name: str) -> str:
    value = without_place(name, settings.get(name))
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _p(value: float) -> str:
    """With its sign: "= 0.020", "< 0.001"."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
