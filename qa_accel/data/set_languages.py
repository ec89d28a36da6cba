"""--answer_language and the questions -> the language of every question, and a warning where it does not suit the answers."""

import logging
from collections.abc import Sequence

import datasets
import numpy as np

from qa_accel.answer_language import ENGLISH, AnswerLanguage
from qa_accel.data import answer_scripts
from qa_accel.data.named_sets import SetRows
from qa_accel.language_by_set import by_id, language_by_set
from qa_accel.messages import short

logger = logging.getLogger(__name__)


def languages_of(given: Sequence[str], questions: datasets.Dataset) -> AnswerLanguage:
    """The one language of all questions, or of each by id. Raises ValueError as `language_by_set`, and for languages of sets
    where the files have no names."""
    sets = SetRows.of(questions)
    if sets is None:
        return _only(given)
    by_set = language_by_set(given, sets.names)
    if len(set(by_set.values())) == 1:
        return next(iter(by_set.values()))
    return by_id(by_set, sets.by_id(questions["id"][:]))


def _only(given: Sequence[str]) -> str:
    if "=" in given[0]:
        raise ValueError(
            f"--answer_language {short(' '.join(given), 100)} is for named sets; name them (NAME=FILE), or give one language"
        )
    return given[0]


def warn_of_scripts(given: Sequence[str], questions: datasets.Dataset, source: str) -> None:
    """Log a warning for each set whose answers are in another script than the rules of its language are for."""
    sets = SetRows.of(questions)
    if sets is None:
        parts, by_set = {"": questions}, {"": _only(given)}
    else:
        by_set = language_by_set(given, sets.names)
        rows = {name: np.flatnonzero(sets.set_Q == number) for number, name in enumerate(sets.names)}
        parts = {name: questions.select(rows[name]) for name in sets.names if by_set[name] == ENGLISH}
    for name, part in parts.items():
        warning = answer_scripts.warning_of(answer_scripts.some_answers(part), by_set[name])
        if warning is not None:
            logger.warning("%s: %s", f"the set {name} of {source}" if name else source, warning)
