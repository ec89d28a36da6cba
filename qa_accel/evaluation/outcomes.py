"""Answers and gold answers of a split as arrays, one row per question: what thresholds, intervals and error analyses work on.

Axes: Q questions, R resamples, P paragraphs (distinct contexts), T thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qa_accel.answer_language import ENGLISH, AnswerLanguage
from qa_accel.evaluation.squad_scores import exact_and_f1_of

EXACT, F1 = 0, 1
"""Columns of scores."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What each question scores with its best span and with no answer, by the official definitions."""

    ids: Sequence[str]
    texts: Sequence[str]
    """The best span's text whatever the null odds; of predictions without null odds, the predictions."""
    score_Q2: np.ndarray
    """float64, 0 to 1: exact match and F1 of `texts`."""
    has_answer_Q: np.ndarray
    """bool: whether the question has a gold answer."""
    paragraph_Q: np.ndarray
    """int: equal for questions on the same context, 0 to P - 1."""
    null_odds_Q: np.ndarray | None
    """float64; None where predictions came without any, so that no threshold can be applied."""

    @classmethod
    def of(
        cls,
        texts: Mapping[str, str],
        null_odds: Mapping[str, float] | None,
        golds: Mapping[str, Sequence[str]],
        contexts: Mapping[str, str],
        language: AnswerLanguage = ENGLISH,
    ) -> "Outcomes":
        """By id, all of the same ids; `golds` decides the order."""
        paragraphs: dict[str, int] = {}
        return cls(
            ids=list(golds),
            texts=[texts[key] for key in golds],
            score_Q2=exact_and_f1_of(texts, golds, language),
            has_answer_Q=np.array([len(gold) > 0 for gold in golds.values()], bool),
            paragraph_Q=np.array([paragraphs.setdefault(contexts[key], len(paragraphs)) for key in golds], np.int64),
            null_odds_Q=None if null_odds is None else np.array([null_odds[key] for key in golds], np.float64),
        )

    @property
    def empty_Q2(self) -> np.ndarray:
        """Exact match and F1 of "" as the answer."""
        return np.repeat((~self.has_answer_Q).astype(np.float64)[:, None], 2, axis=1)

    def gain_Q(self, column: int) -> np.ndarray:
        """What a question adds once it is answered with its best span instead of "", as the official search for the best
        threshold counts it: an unanswerable one loses 1 by any text, one of an article alone included."""
        answered_Q = np.array([bool(text) for text in self.texts], np.float64)
        return np.where(self.has_answer_Q, self.score_Q2[:, column], -answered_Q)

    def answered_Q(self, threshold: float | None) -> np.ndarray:
        """Whether a question is answered with its best span; None: every question is."""
        if threshold is None or self.null_odds_Q is None:
            return np.ones(len(self.ids), bool)
        return ~(self.null_odds_Q > threshold)

    def scores_at(self, threshold: float | None) -> np.ndarray:
        """(Q, 2) exact match and F1, 0 to 1, of the answers at this threshold."""
        return np.where(self.answered_Q(threshold)[:, None], self.score_Q2, self.empty_Q2)

    def predictions_at(self, threshold: float | None) -> list[str]:
        return [text if answered else "" for text, answered in zip(self.texts, self.answered_Q(threshold).tolist())]


def threshold_curve(outcomes: Outcomes, most: int) -> dict[str, np.ndarray]:
    """Scores in percent at no more than `most` thresholds from the lowest to the highest null odds, by quantiles of these.

    Arrays (T,): threshold, exact, f1, answered, and HasAns_f1 and NoAns_exact where there are such questions.
    """
    assert outcomes.null_odds_Q is not None and len(outcomes.ids), "without null odds there is no curve"
    order = np.argsort(outcomes.null_odds_Q, kind="stable")
    odds_Q = outcomes.null_odds_Q[order]
    last = np.nonzero(np.append(odds_Q[1:] != odds_Q[:-1], True))[0]  # a threshold does not divide equal null odds
    if len(last) > most - 1:
        last = np.unique(last[np.linspace(0, len(last) - 1, most - 1).round().astype(int)])
    thresholds, places = odds_Q[last], last
    if odds_Q[0] > -np.inf:  # below the lowest, nothing is answered; below -inf there is no threshold
        thresholds = np.append(np.nextafter(odds_Q[0], -np.inf), thresholds)
        places = np.append(-1, places)

    def mean_at_places(columns_Q2: np.ndarray, empty_Q2: np.ndarray, chosen_Q: np.ndarray) -> np.ndarray:
        gain_Q2 = np.where(chosen_Q[:, None], columns_Q2 - empty_Q2, 0.0)[order]
        running = np.concatenate((np.zeros((1, 2)), np.cumsum(gain_Q2, axis=0)))
        return 100 * (running[places + 1] + empty_Q2[chosen_Q].sum(axis=0)) / chosen_Q.sum()

    everything_Q, empty_Q2 = np.ones(len(order), bool), outcomes.empty_Q2
    both = mean_at_places(outcomes.score_Q2, empty_Q2, everything_Q)
    curve = {
        "threshold": thresholds,
        "exact": both[:, EXACT],
        "f1": both[:, F1],
        "answered": 100 * (places + 1) / len(order),
    }
    for name, chosen_Q, column in (
        ("HasAns_f1", outcomes.has_answer_Q, F1),
        ("NoAns_exact", ~outcomes.has_answer_Q, EXACT),
    ):
        if chosen_Q.any():
            curve[name] = mean_at_places(outcomes.score_Q2, empty_Q2, chosen_Q)[:, column]
    return curve


def best_threshold(outcomes: Outcomes, column: int) -> tuple[float, float | None]:
    """The highest mean score, 0 to 1, that one threshold reaches, and the lowest such threshold; None where answering nothing
    at all is best. As the official search, it takes equal null odds one after the other."""
    assert outcomes.null_odds_Q is not None
    order = np.argsort(outcomes.null_odds_Q, kind="stable")
    with_nothing = float((~outcomes.has_answer_Q).sum())
    running = np.cumsum(np.concatenate(([with_nothing], outcomes.gain_Q(column)[order])))
    first = int(running.argmax())
    return float(running[first]) / len(order), float(outcomes.null_odds_Q[order[first - 1]]) if first else None
