"""Spans of one question with their scores, the empty answer with its own -> a decision and an n-best list, for all questions in one
`Answers`. What a model, an ensemble and saved logits give has this form."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from qa_accel.inference.confidence import Calibration

NULL_ODDS_WITHOUT_SPAN = 1e9
"""Null odds where no window has a valid span. JSON knows no infinity; no difference of logits comes near this."""


class _Uncalibrated(TypedDict):
    text: str
    probability: float
    """Softmax over the list."""
    score: float
    """Probability of the start times that of the end, each a softmax over the context's tokens and the null position of the
    window that the span is from: the `score` of transformers' removed pipeline. Of the empty answer, the lowest over the windows."""
    start_logit: float
    end_logit: float
    start: int
    end: int


class SeveralEntry(TypedDict):
    """One of several answers, or a span that may be one: `context[start:end] == text`, in characters."""

    text: str
    start: int
    end: int
    score: float
    """As in an n-best list, 0 to 1."""


class NBestEntry(_Uncalibrated, total=False):
    """One line of an n-best list: `context[start:end] == text`, in characters. The empty answer is at 0, 0."""

    confidence: float
    """Probability that the text is right by exact match. Only of a calibrated model."""


def logit_score(entry: NBestEntry) -> float:
    """What ranks spans of different windows, and "no answer" among them: start logit + end logit.

    Added in float32, as `best_answers` does: a tuned threshold is some question's null odds to the bit.
    """
    return float(np.float32(entry["start_logit"]) + np.float32(entry["end_logit"]))


@dataclass(frozen=True)
class Decision:
    """One question's answer and all that could have been one."""

    text: str
    best_text: str
    null_odds: float
    confidence: float | None
    """None without a calibration."""
    entries: list[NBestEntry]


@dataclass(frozen=True)
class Answers:
    """By id, in the order of the questions. Lists may be made when they are read (`MadeInChunks`): of many questions they take a
    hundred times the memory of the rest."""

    predictions: dict[str, str]
    """The answer, "" for none."""
    best_texts: dict[str, str]
    """The best span's text whatever the null odds; thresholds are tuned on it. "" only where there is no span."""
    null_odds: dict[str, float]
    """Null score minus the best span's score; NULL_ODDS_WITHOUT_SPAN where there is no span."""
    nbest: Mapping[str, list[NBestEntry]]
    """At most n_best_size spans, best first; also the empty answer, in its place by score, if the data has unanswerable
    questions. Probabilities are a softmax over the list. Never empty: without any span, the empty answer."""
    confidences: dict[str, float] = field(default_factory=dict)
    """Probability that the prediction is right by exact match; empty unless the model is calibrated."""
    candidates: Mapping[str, list[SeveralEntry]] = field(default_factory=dict)
    """At most n_best_size spans that share no character, the highest score first; empty unless several answers are asked for."""
    several: Mapping[str, list[SeveralEntry]] = field(default_factory=dict)
    """Those that are answers: [] for none. Empty unless several answers are asked for."""

    def add(self, key: str, decision: Decision) -> None:
        """All of a question but its list."""
        self.predictions[key] = decision.text
        self.best_texts[key] = decision.best_text
        self.null_odds[key] = decision.null_odds
        if decision.confidence is not None:
            self.confidences[key] = decision.confidence


@dataclass(frozen=True)
class Listing:
    """All that is known of one question's answers before it is decided."""

    entries: list[NBestEntry]
    """Spans, best first; their probabilities and confidences are filled in when the list is whole."""
    scores: list[float]
    """Of the spans: the `logit_score` of each."""
    empty: NBestEntry
    null_score: float

    def decide(self, threshold: float, calibration: Calibration | None, *, version_2_with_negative: bool) -> Decision:
        """Once: it completes `entries`, which become the decision's."""
        entries, scores, empty = self.entries, self.scores, self.empty
        best_text = entries[0]["text"] if entries else ""
        null_odds = self.null_score - scores[0] if entries else NULL_ODDS_WITHOUT_SPAN
        empty_wins = not entries or (version_2_with_negative and null_odds > threshold)
        confidence = None
        if calibration is not None:
            odds = null_odds if version_2_with_negative and calibration.knows_no_answer else None
            of_spans, of_empty = _add_confidences(calibration, entries, scores, empty, odds)
            confidence = of_empty if empty_wins else of_spans[0]
        if version_2_with_negative or not entries:
            place = sum(score >= self.null_score for score in scores)
            entries.insert(place, empty)
            scores.insert(place, self.null_score)
        weights = [math.exp(score - scores[0]) for score in scores]
        total = sum(weights)
        for entry, weight in zip(entries, weights):
            entry["probability"] = weight / total
        return Decision("" if empty_wins else best_text, best_text, null_odds, confidence, entries)


def _add_confidences(
    calibration: Calibration,
    entries: list[NBestEntry],
    scores: list[float],
    empty: NBestEntry,
    null_odds: float | None,
) -> tuple[list[float], float]:
    """Fills them in, and returns those of the spans and that of the empty answer."""
    of_spans, of_empty = calibration.confidences([entry["text"] for entry in entries], scores, null_odds)
    for entry, confidence in zip([*entries, empty], [*of_spans, of_empty], strict=True):
        entry["confidence"] = confidence
    return of_spans, of_empty
