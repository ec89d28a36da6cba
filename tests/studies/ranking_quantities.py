"""The windows of a collection of documents per question -> quantities that rank their spans, and figures of answerability.

No quantity changes the order that the logits give to the spans of one window, so its best span is the same by each. A
collection takes some of each question's documents; questions without any of them are not part of it.

Axes: W windows, D documents, Q questions, each a run of the one before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ranking_documents import Documents, Questions
from ranking_windows import Found

from qa_accel.evaluation.squad_scores import exact_and_f1


@dataclass(frozen=True)
class Collection:
    windows: Found
    document_W: np.ndarray
    """0, 1, ...: place among the collection's documents."""
    first_window_D: np.ndarray
    first_document_Q: np.ndarray
    first_window_Q: np.ndarray
    row_Q: np.ndarray
    """Row of the questions."""
    answerable_Q: np.ndarray
    """bool: the question's own paragraph answers it."""

    def lowest_null_D(self) -> np.ndarray:
        return np.minimum.reduceat(self.windows.null_W, self.first_window_D)

    def null_odds_D(self) -> np.ndarray:
        """Of a document, as `postprocess.best_answers` has them: its lowest null score less its best span's score."""
        return self.lowest_null_D() - np.maximum.reduceat(self.windows.span_W, self.first_window_D)


def collection_of(found: Found, documents: Documents, questions: Questions, chosen_D: np.ndarray) -> Collection:
    windows = found.of(chosen_D[found.document_W])
    question_W = documents.question_D[windows.document_W]
    first_window_D, document_W = np.unique(windows.document_W, return_index=True, return_inverse=True)[1:]
    row_Q, first_document_Q = np.unique(question_W[first_window_D], return_index=True)
    return Collection(
        windows=windows,
        document_W=document_W,
        first_window_D=first_window_D,
        first_document_Q=first_document_Q,
        first_window_Q=first_window_D[first_document_Q],
        row_Q=row_Q,
        answerable_Q=np.array([bool(questions.golds_Q[row]) for row in row_Q]),
    )


def _null_probability(windows: Found) -> np.ndarray:
    """Logarithm. Rounding may bring it above 0, where the null position has all of the probability."""
    return np.minimum(windows.null_W - windows.lse_W, -1e-7)


def _lse_without_null(windows: Found) -> np.ndarray:
    def without(lse_W: np.ndarray, null_W: np.ndarray) -> np.ndarray:
        return lse_W + np.log(-np.expm1(np.minimum(null_W - lse_W, -1e-6)))

    return without(windows.lse_start_W, windows.null_start_W) + without(windows.lse_end_W, windows.null_end_W)


def _lse_of_document(collection: Collection) -> np.ndarray:
    """W: over all windows of the window's document."""
    return np.logaddexp.reduceat(collection.windows.lse_W, collection.first_window_D)[collection.document_W]


RANKINGS: dict[str, Callable[[Collection], np.ndarray]] = {
    "logits: s + e": lambda c: c.windows.span_W,
    "s + e - null of the window": lambda c: c.windows.span_W - c.windows.null_W,
    "s + e - lowest null of the document": lambda c: c.windows.span_W - c.lowest_null_D()[c.document_W],
    "probability: s + e - lse": lambda c: c.windows.span_W - c.windows.lse_W,
    "s + e - lse over the document": lambda c: c.windows.span_W - _lse_of_document(c),
    "s + e - lse without null": lambda c: c.windows.span_W - _lse_without_null(c.windows),
    "probability x (1 - that of null)": lambda c: (
        c.windows.span_W - c.windows.lse_W + np.log(-np.expm1(_null_probability(c.windows)))
    ),
    "share among the n best and null": lambda c: (
        c.windows.span_W - np.logaddexp(c.windows.lse_spans_W, c.windows.null_W)
    ),
    "least probability of null: lse - null": lambda c: c.windows.lse_W - c.windows.null_W,
    "s + e - lse / 2": lambda c: c.windows.span_W - c.windows.lse_W / 2,
    "s + e - null / 2": lambda c: c.windows.span_W - c.windows.null_W / 2,
}
"""W: higher is better. The softmax over all windows of a question ranks as the logits do."""


def _highest(values_W: np.ndarray, collection: Collection) -> np.ndarray:
    return np.maximum.reduceat(values_W, collection.first_window_Q)


def _odds(best_Q: np.ndarray, collection: Collection) -> np.ndarray:
    """`best_Q` less the lowest null of all windows."""
    return best_Q - np.minimum.reduceat(collection.windows.null_W, collection.first_window_Q)


def _none_by_product(log_probability_W: np.ndarray, collection: Collection) -> np.ndarray:
    """Log odds of: not none of the windows, if each has this probability on its own."""
    log_none_W = np.log1p(-np.exp(np.minimum(log_probability_W, -1e-7)))
    log_none_Q = np.minimum(np.add.reduceat(log_none_W, collection.first_window_Q), -1e-12)
    return np.log(-np.expm1(log_none_Q)) - log_none_Q


FIGURES: dict[str, Callable[[Collection], np.ndarray]] = {
    "null odds: best s + e - lowest null": lambda c: _odds(_highest(c.windows.span_W, c), c),
    "best of (s + e - null of the window)": lambda c: _highest(c.windows.span_W - c.windows.null_W, c),
    "best of the documents' null odds": lambda c: np.maximum.reduceat(-c.null_odds_D(), c.first_document_Q),
    "highest probability": lambda c: _highest(c.windows.span_W - c.windows.lse_W, c),
    "1 - product of (1 - probability)": lambda c: _none_by_product(c.windows.span_W - c.windows.lse_W, c),
    "least probability of null": lambda c: _highest(-_null_probability(c.windows), c),
    "1 - product of null's probabilities": lambda c: -np.add.reduceat(_null_probability(c.windows), c.first_window_Q),
    "softmax over the windows' best, lowest null": lambda c: _odds(
        np.logaddexp.reduceat(c.windows.span_W, c.first_window_Q), c
    ),
    "sum of the windows' odds": lambda c: np.logaddexp.reduceat(c.windows.span_W - c.windows.null_W, c.first_window_Q),
    "softmax over all of all windows": lambda c: (
        _highest(c.windows.span_W, c) - np.logaddexp.reduceat(c.windows.lse_W, c.first_window_Q)
    ),
}
"""Q: higher where an answer is more likely; any monotone function of it orders the questions alike."""


def best_texts(collection: Collection, ranking: str) -> list[str]:
    """Q: of the span that is best by the ranking; among equals that of the earlier window."""
    values_W = RANKINGS[ranking](collection)
    starts = np.append(collection.first_window_Q, len(values_W))
    best_Q = [begin + int(values_W[begin:end].argmax()) for begin, end in pairwise(starts.tolist())]
    return [str(collection.windows.text_W[place]) for place in best_Q]


def right(collection: Collection, questions: Questions, ranking: str) -> np.ndarray:
    """(Q, 2): exact match and F1 of the best span; 0 where the question has no answer."""
    texts = best_texts(collection, ranking)
    return np.array(
        [
            exact_and_f1(text, questions.golds_Q[row]) if questions.golds_Q[row] else (0.0, 0.0)
            for row, text in zip(collection.row_Q, texts)
        ]
    )
