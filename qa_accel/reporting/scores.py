"""A judged run -> its scores with intervals: the headline, the numbers in front, the table by threshold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from qa_accel.answer_language import is_english, spelled_language
from qa_accel.evaluation.bootstrap import RESAMPLES, best_interval, mean_interval
from qa_accel.evaluation.multi_span_scores import multi_span_scores
from qa_accel.evaluation.outcomes import EXACT, F1, best_threshold
from qa_accel.reporting.blocks import Cell, Section, Table, Text, Tile, Tiles
from qa_accel.reporting.judged_run import JudgedRun

Interval: TypeAlias = tuple[float, float] | None
"""None where the questions are of one context: nothing is known of others."""


@dataclass(frozen=True)
class ScoresAt:
    """Percent, at one threshold; intervals of 95 %."""

    name: str
    threshold: float | None
    exact: float
    exact_interval: Interval
    f1: float
    f1_interval: Interval
    has_answer_f1: float | None
    no_answer_exact: float | None
    answered: float
    """Percent of the questions."""


def headline(run: JudgedRun) -> str:
    exact, f1 = 100 * run.exact_Q.mean(), 100 * run.f1_Q.mean()
    return f"F1 {f1:.2f}, exact match {exact:.2f} on {len(run.data.ids):,} questions{by_language(run)}"


def by_language(run: JudgedRun) -> str:
    """What a headline adds where the scores are not those of English rules."""
    language = run.data.answer_language
    return "" if is_english(language) else f", answer language {spelled_language(language)}"


def scores_at(run: JudgedRun, name: str, threshold: float | None) -> ScoresAt:
    outcomes = run.outcomes
    score_Q2 = outcomes.scores_at(threshold)
    has_Q = outcomes.has_answer_Q
    known = _contexts(run) > 1
    low_high = [
        _percent(mean_interval(score_Q2[:, column], outcomes.paragraph_Q)) if known else None for column in (EXACT, F1)
    ]
    return ScoresAt(
        name=name,
        threshold=threshold,
        exact=100 * float(score_Q2[:, EXACT].mean()),
        exact_interval=low_high[EXACT],
        f1=100 * float(score_Q2[:, F1].mean()),
        f1_interval=low_high[F1],
        has_answer_f1=100 * float(score_Q2[has_Q, F1].mean()) if has_Q.any() else None,
        no_answer_exact=100 * float(score_Q2[~has_Q, EXACT].mean()) if not has_Q.all() else None,
        answered=100 * float(np.mean([bool(text) for text in outcomes.predictions_at(threshold)])),
    )


def all_scores(run: JudgedRun) -> list[ScoresAt]:
    """At threshold 0, at the stored one and at the best one for F1; one line where there is no threshold."""
    if run.threshold is None or run.outcomes.null_odds_Q is None:
        return [scores_at(run, run.threshold_source, None)]
    found = [scores_at(run, "threshold 0", 0.0)]
    if run.threshold != 0:
        found.append(scores_at(run, run.threshold_source, run.threshold))
    _, where = best_threshold(run.outcomes, F1)
    at_best = scores_at(run, "best for F1 on these questions", -np.inf if where is None else where)
    if _contexts(run) > 1:
        at_best = replace(at_best, f1_interval=_percent(best_interval(run.outcomes, F1)))
    return [*found, at_best]


def _contexts(run: JudgedRun) -> int:
    return int(run.outcomes.paragraph_Q.max()) + 1


def tiles(run: JudgedRun) -> Tiles:
    """What a person came for: the scores of the answers as the model gives them."""
    own, has_Q = scores_at(run, run.threshold_source, run.threshold), run.outcomes.has_answer_Q
    found = [
        Tile("F1", f"{own.f1:.2f}", _noted(own.f1_interval)),
        Tile("exact match", f"{own.exact:.2f}", _noted(own.exact_interval)),
    ]
    if own.has_answer_f1 is not None and own.no_answer_exact is not None:
        found += [
            Tile("F1, answerable", f"{own.has_answer_f1:.2f}", f"{int(has_Q.sum()):,} questions"),
            Tile("exact, unanswerable", f"{own.no_answer_exact:.2f}", f"{int((~has_Q).sum()):,} questions"),
        ]
    return Tiles(found)


def section(run: JudgedRun) -> Section:
    found = all_scores(run)
    contexts = _contexts(run)
    note = f"Intervals: 95 %, {RESAMPLES:,} bootstrap resamples of the {contexts:,} contexts."
    if contexts == 1:
        note = "All questions are of one context, so there are no intervals: what holds for others is not known."
    if len(found) > 1:
        note += (
            " At the best threshold each resample of F1 finds its own. That threshold was chosen on these very questions, so its score "
            "flatters the model."
        )
    return Section("scores", "Scores", [_table(found), Text(note), *several_answers(run)])


def several_answers(run: JudgedRun) -> list[Table]:
    """Of answers.json: every gold text is an answer of its own. AUPR and precision at a recall need what was not listed too, so they
    are those that the run stored, if it did."""
    several, golds = run.files.several, run.data.golds()
    if several is None or not all(key in several for key in golds):
        return []
    found = multi_span_scores(several, golds, run.data.answer_language)
    rows: list[Sequence[Cell]] = [
        (name, *(f"{found[f'{key}_{figure}']:.2f}" for figure in ("f1", "precision", "recall")))
        for key, name in (("multi_exact", "exact match"), ("multi_partial", "partial match"))
    ]
    columns = ("several answers per question, %", "F1", "precision", "recall")
    stored = {
        name: run.files.results.get(key)
        for key, name in (
            ("aupr", "AUPR"),
            ("precision_at_80_recall", "precision at 80 % recall"),
            ("precision_at_90_recall", "precision at 90 % recall"),
        )
    }
    numbers = [(name, f"{value:.2f}") for name, value in stored.items() if type(value) in (int, float)]
    tables = [Table("Several answers", columns, rows)]
    if numbers:
        tables.append(Table("Several answers by confidence", ("as the run stored it", "%"), numbers))
    return tables


def _table(found: Sequence[ScoresAt]) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            each.name,
            "" if each.threshold is None else f"{each.threshold:.4g}",
            f"{each.exact:.2f}{_narrow(each.exact_interval)}",
            f"{each.f1:.2f}{_narrow(each.f1_interval)}",
            "" if each.has_answer_f1 is None else f"{each.has_answer_f1:.2f}",
            "" if each.no_answer_exact is None else f"{each.no_answer_exact:.2f}",
            f"{each.answered:.1f}",
        )
        for each in found
    ]
    columns = ("at", "threshold", "exact (95 %)", "F1 (95 %)", "F1, answerable", "exact, unanswerable", "answered, %")
    return Table("Scores by threshold", columns, rows)


def _percent(interval: tuple[float, float]) -> tuple[float, float]:
    return 100 * interval[0], 100 * interval[1]


def _narrow(interval: Interval) -> str:
    return "" if interval is None else f" ({interval[0]:.2f}–{interval[1]:.2f})"


def _noted(interval: Interval) -> str:
    return "one context: no interval" if interval is None else f"95 %: {interval[0]:.2f} to {interval[1]:.2f}"
