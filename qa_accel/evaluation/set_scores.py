"""Scores of questions of several named sets -> the scores of each set, and their mean, in which every set counts the same."""

import math
from collections.abc import Mapping, Sequence

from qa_accel.answer_language import ENGLISH, AnswerLanguage
from qa_accel.evaluation.squad_scores import squad_scores

MEANS = ("exact", "f1", "best_exact", "best_f1")
"""Figures that have a mean over sets."""


def scores_by_set(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    no_answer_scores: Mapping[str, float] | None,
    no_answer_threshold: float,
    set_of: Mapping[str, str],
    language: AnswerLanguage = ENGLISH,
) -> dict[str, float | int]:
    """`squad_scores` of each set as NAME_exact, NAME_f1, ..., and mean_exact, mean_f1, ...: means of the sets' figures.

    `set_of`: id -> name. The other arguments are those of `squad_scores`. `mean_best_f1` is the mean of what each set
    reaches at a threshold of its own.
    """
    found: dict[str, float | int] = {}
    parts: dict[str, list[str]] = {}
    for key in references:
        parts.setdefault(set_of[key], []).append(key)
    given: dict[str, dict[str, float]] = {name: {} for name in parts}
    for key, score in (no_answer_scores or {}).items():  # in their order, by which equal ones are ranked
        if key in references:
            given[set_of[key]][key] = score
    figures = {
        name: squad_scores(
            {key: predictions[key] for key in keys},
            {key: references[key] for key in keys},
            None if no_answer_scores is None else given[name],
            no_answer_threshold,
            language,
        )
        for name, keys in parts.items()
    }
    for name, scores in figures.items():
        found |= {f"{name}_{figure}": value for figure, value in scores.items()}
    for figure in MEANS:
        values = [scores[figure] for scores in figures.values() if figure in scores]
        if values:
            found[f"mean_{figure}"] = math.fsum(values) / len(values)
    return found
