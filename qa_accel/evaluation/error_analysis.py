"""Every question of a split with its answer -> kinds of errors, and the slices in which there are more of them than chance gives.

`AnalysedQuestion` is one question with all that is known of its answer; `analyse` counts. Kinds are those of `error_kinds`, families and
values of slices those of `question_features`. Needs scipy (extra `report`) for the tests of chance.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qa_accel.evaluation import significance
from qa_accel.evaluation.error_kinds import KINDS
from qa_accel.evaluation.question_features import common_titles, slices_of


@dataclass(frozen=True)
class AnalysedQuestion:
    id: str
    paragraph: int
    """Equal for questions on the same context."""
    kind: str
    features: dict[str, str]
    """Family -> value."""
    exact: float
    f1: float
    """Both 0 to 1."""
    confidence: float | None
    """Of the prediction, 0 to 1; None where it is not known."""


@dataclass(frozen=True)
class Slice:
    """Questions that share a value of a family."""

    family: str
    value: str
    questions: int
    exact: float
    f1: float
    """Percent."""
    share_of_errors: float
    """Part of all wrong answers, 0 to 1."""
    rest_exact: float
    """Percent, of all other questions of the family."""
    p_value: float | None
    """That its questions are as often wrong as the rest, corrected for the number of slices; None: too few to test."""
    kinds: dict[str, int]
    """Number of questions of each kind."""

    @property
    def beyond_chance(self) -> bool:
        return self.p_value is not None and self.p_value < significance.LEVEL

    @property
    def excess_errors(self) -> float:
        """Wrong answers beyond what the rest's rate would give."""
        return self.questions * (self.rest_exact - self.exact) / 100


@dataclass(frozen=True)
class ErrorAnalysis:
    questions: Sequence[AnalysedQuestion]
    kinds: dict[str, int]
    """Number of questions of each kind, all kinds."""
    slices: Sequence[Slice]
    """Worse beyond chance first, the surest first; then the others, by their excess of errors; then those that are better."""

    @property
    def worse(self) -> list[Slice]:
        """Slices that are wrong more often than the rest, beyond chance."""
        return [each for each in self.slices if each.beyond_chance and each.exact < each.rest_exact]

    @property
    def better(self) -> list[Slice]:
        return [each for each in self.slices if each.beyond_chance and each.exact > each.rest_exact]

    def confident_and_wrong(self) -> list[AnalysedQuestion]:
        """Wrong answers, the most confident first; those of unknown confidence last."""
        wrong = [question for question in self.questions if question.kind != "right"]
        return sorted(
            wrong, key=lambda question: -1.0 if question.confidence is None else question.confidence, reverse=True
        )

    def as_dict(self) -> dict[str, Any]:
        """Content of error_analysis.json."""
        total, wrong = len(self.questions), sum(question.kind != "right" for question in self.questions)
        return {
            "questions": total,
            "wrong": wrong,
            "kinds": [
                {"kind": kind, "name": name, "questions": self.kinds[kind], "share": self.kinds[kind] / total}
                for kind, name in KINDS.items()
            ],
            "slices": [
                {
                    "family": each.family,
                    "value": each.value,
                    "questions": each.questions,
                    "exact": each.exact,
                    "f1": each.f1,
                    "share_of_errors": each.share_of_errors,
                    "rest_exact": each.rest_exact,
                    "p_value": each.p_value,
                    "verdict": verdict(each),
                    "kinds": each.kinds,
                }
                for each in self.slices
            ],
            "confident_and_wrong": [
                {"id": question.id, "kind": question.kind, "confidence": question.confidence}
                for question in self.confident_and_wrong()[:100]
            ],
            "kind_of": {question.id: question.kind for question in self.questions},
        }


def verdict(each: Slice) -> str:
    if each.p_value is None:
        return "too few questions to test"
    if not each.beyond_chance:
        return "within chance"
    return "worse" if each.exact < each.rest_exact else "better"


def analyse(questions: Sequence[AnalysedQuestion]) -> ErrorAnalysis:
    """Count kinds, and test each slice of each family against the rest of the family."""
    common_titles([question.features for question in questions])
    slices = _slices(questions)
    kinds = Counter(question.kind for question in questions)
    return ErrorAnalysis(questions, {kind: kinds[kind] for kind in KINDS}, sorted(slices, key=_order))


def _order(each: Slice) -> tuple[int, float, float]:
    """What is beyond chance by how sure that is: a slice within a larger one that it makes worse comes before that one."""
    worse_first = 0 if not each.beyond_chance else -1 if each.exact < each.rest_exact else 1
    return worse_first, each.p_value or 0.0 if worse_first else 0.0, -each.excess_errors


def _slices(questions: Sequence[AnalysedQuestion]) -> list[Slice]:
    """Each slice is compared with the rest of its family: a long answer with other answers, not with questions without any."""
    exact_Q = np.array([question.exact for question in questions])
    f1_Q = np.array([question.f1 for question in questions])
    _, paragraph_Q = np.unique([question.paragraph for question in questions], return_inverse=True)
    wrong_Q = exact_Q == 0
    found, p_values = [], []
    for family, values in slices_of([question.features for question in questions]).items():
        rows_F = np.concatenate([np.array(rows) for rows in values.values()])
        first = 0
        for value, rows in values.items():
            in_F = np.zeros(len(rows_F), bool)
            in_F[first : first + len(rows)] = True
            first += len(rows)
            p_values.append(significance.slice_p_value(in_F, wrong_Q[rows_F], paragraph_Q[rows_F]))
            kinds = Counter(questions[row].kind for row in rows)
            found.append(
                Slice(
                    family=family,
                    value=value,
                    questions=len(rows),
                    exact=100 * float(exact_Q[rows].mean()),
                    f1=100 * float(f1_Q[rows].mean()),
                    share_of_errors=float(wrong_Q[rows].sum() / max(wrong_Q.sum(), 1)),
                    rest_exact=100 * float(exact_Q[rows_F[~in_F]].mean()),
                    p_value=None,
                    kinds={kind: kinds[kind] for kind in KINDS if kinds[kind]},
                )
            )
    corrected = significance.holm(np.array(p_values))
    return [replace(each, p_value=None if np.isnan(p) else float(p)) for each, p in zip(found, corrected)]
