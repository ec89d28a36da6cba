"""Several scored answers per question + all gold answers -> area under the curve of precision and recall, and precision at 80 % and
90 % recall, as CUAD's script counts them.

Source of the definitions: TheAtticusProject/cuad, evaluate.py (Hendrycks et al. 2021, arXiv:2103.06268), in the version that
splits texts at any blanks. At each of 101 confidences (0.99, 0.98, ..., 0.01, 0.001, 0) the answers above it count:

    match      the sets of words have a Jaccard index of at least 0.5; of questions with "Parties" in their id an answer that
               contains a gold text matches too
    recall     gold answers that some answer matches, of all gold answers
    precision  these gold answers, of these and of the answers that match no gold answer: several answers that match one gold
               answer count once, one answer that matches two counts twice

A precision is raised to the highest at any higher recall; the curve begins at recall 0 with precision 1 and is joined by straight
lines. Equal texts of a question are one answer, with the confidence of the last in the list. As in the script, precision at a
recall looks at all points but the last (confidence 0), and is 0 where no point has that recall.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCES = (*np.arange(0.99, 0, -0.01).tolist(), 0.001, 0.0)
LEAST_JACCARD = 0.5
ANY_THAT_CONTAINS = "Parties"
"""In the id of a question: its answers match by containing a gold text."""


@dataclass(frozen=True)
class ScoredText:
    text: str
    confidence: float
    """0 to 1."""


def cuad_scores(
    predictions: Mapping[str, Sequence[ScoredText]], references: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """In percent: aupr, precision_at_80_recall and precision_at_90_recall. Empty where no question has a gold answer.

    `references` (id -> all gold texts, [] = none) and `predictions` are of the same questions; empty texts do not count.
    """
    best_of_gold, of_wrong = array("d"), array("d")
    for key, texts in references.items():
        confidence_of = {each.text: each.confidence for each in predictions[key] if each.text}
        golds = [text for text in texts if text]
        hits = [[matches(gold, text, key) for text in confidence_of] for gold in golds]
        found = list(confidence_of.values())
        best_of_gold.extend(max((one for one, hit in zip(found, row) if hit), default=-1.0) for row in hits)
        of_wrong.extend(one for place, one in enumerate(found) if not any(row[place] for row in hits))
    if not best_of_gold:
        return {}
    right_T, wrong_T = _above(best_of_gold), _above(of_wrong)
    recall_T = np.concatenate([[0.0], right_T / len(best_of_gold)])
    counted_T = right_T + wrong_T
    precision_T = np.concatenate([[1.0], np.where(counted_T > 0, right_T / np.maximum(counted_T, 1), 0.0)])
    raised_T = np.maximum.accumulate(precision_T[::-1])[::-1]
    area = float((np.diff(recall_T) * (raised_T[1:] + raised_T[:-1]) / 2).sum()) if counted_T[-1] else 0.0
    result = {"aupr": 100 * area}
    for percent in (80, 90):
        reached_T = np.flatnonzero(recall_T[:-1] >= percent / 100)
        result[f"precision_at_{percent}_recall"] = 100 * float(raised_T[reached_T[0]]) if len(reached_T) else 0.0
    return result


def _above(confidences: Sequence[float]) -> np.ndarray:
    """How many are above each of CONFIDENCES."""
    return len(confidences) - np.searchsorted(np.sort(confidences), CONFIDENCES, side="right")


def matches(gold: str, text: str, key: str) -> bool:
    return jaccard(gold, text) >= LEAST_JACCARD or (ANY_THAT_CONTAINS in key and gold in text)


def jaccard(one: str, other: str) -> float:
    """Of the sets of words; 0 for two texts without any."""
    here, there = _words(one), _words(other)
    return len(here & there) / len(here | there) if here | there else 0.0


def _words(text: str) -> set[str]:
    """Lower case, without `. , ; :`, and with / as a blank."""
    return set(text.translate(_WITHOUT).lower().replace("/", " ").split())


_WITHOUT = str.maketrans("", "", ".,;:")
