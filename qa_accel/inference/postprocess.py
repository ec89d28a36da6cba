"""Best spans of every window -> one answer, an n-best list and a no-answer score for every question.

Spans of all windows are compared at once, by the characters that they cover: neighbouring windows share tokens, so
the same span comes from several, and counts once, with its best score. Among equal scores the span that starts
first wins, then the one that ends first. Answers are cut out of the context, without blanks at their edges and with the
accents and vowel signs of their last character; spans that are only blanks are not answers.

The null score of a question is its lowest over the windows (it has no answer only if no window holds one); its null odds
are the null score minus the best span's. Numpy only, no torch: this runs on rank 0, after the device is done.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qa_accel.data.windows import Windows, end_of_character
from qa_accel.inference.answer_lists import Answers, Listing, NBestEntry, SeveralEntry
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.settings import SpanConfig
from qa_accel.inference.several_answers import several_answers

if TYPE_CHECKING:  # at run time numpy is enough
    from datasets import Dataset


@dataclass(frozen=True)
class Candidates:
    """What the device found: of each window the null position's logits and its K best spans, as positions in the window."""

    null_start_W: np.ndarray
    """float32: start logit at the null position."""
    null_end_W: np.ndarray
    """float32: end logit at the null position."""
    lse_start_W: np.ndarray
    """float32: log of the sum of exp(start logit) over the context's tokens and the null position."""
    lse_end_W: np.ndarray
    """float32: the same of the end logits."""
    start_WK: np.ndarray
    """int32, first token; -1 where the window has fewer than K valid spans."""
    end_WK: np.ndarray
    """int32, last token, inclusive."""
    start_logit_WK: np.ndarray
    """float32"""
    end_logit_WK: np.ndarray
    """float32"""

    @property
    def null_W(self) -> np.ndarray:
        """float32: the null score, start logit + end logit at the null position."""
        return self.null_start_W + self.null_end_W


@dataclass(frozen=True)
class SeveralCandidates(Candidates):
    """What the device found if several answers are asked for."""

    apart: Candidates
    """The same windows with the K best spans that share no token in place of the K best."""


def best_answers(
    questions: "Dataset | Mapping[str, Sequence[str]]",
    windows: Windows,
    candidates: Candidates,
    config: SpanConfig,
    *,
    version_2_with_negative: bool,
    calibration: Calibration | None = None,
) -> Answers:
    """Answers to all of `questions` (columns `id` and `context`), each of which has at least one window.

    Where no window has a valid span (an empty context, say) the answer is "", in data without unanswerable questions too.
    `calibration` adds confidences; nothing else depends on it.
    """
    ids: Sequence[str] = questions["id"][:]
    contexts = shared_contexts(questions)
    apart = None
    if config.several:
        assert isinstance(candidates, SeveralCandidates), "made with settings that ask for several answers too"
        apart = _sorted_spans(windows, candidates.apart, config, ids, by_probability=True)
    spans = _sorted_spans(windows, candidates, config, ids)
    empty_entries = _empty_entries(windows, candidates, ids)
    threshold = config.null_score_diff_threshold or 0.0

    answers = Answers({}, {}, {}, {})
    for row, (key, context, (null_score, empty)) in enumerate(zip(ids, contexts, empty_entries, strict=True)):
        entries, scores = spans.entries(row, context, config.n_best_size)
        listing = Listing(entries, scores, empty, null_score)
        listing.add_to(answers, key, threshold, calibration, version_2_with_negative=version_2_with_negative)
        if apart is not None:
            found = apart.entries(row, context, config.n_best_size, apart=True)[0]
            answers.candidates[key] = [
                SeveralEntry(text=each["text"], start=each["start"], end=each["end"], score=each["score"])
                for each in found
            ]
    if config.min_answer_score is not None:
        answers.several.update(
            several_answers(
                answers.candidates, config.min_answer_score, version_2_with_negative=version_2_with_negative
            )
        )
    return answers


def shared_contexts(questions: "Dataset | Mapping[str, Sequence[str]]") -> list[str]:
    """The context of each question. Equal ones are one string: hundreds of questions may share a long document."""
    shared: dict[str, str] = {}
    column = questions["context"]
    pieces = (column[first : first + 100] for first in range(0, len(column), 100))
    return [shared.setdefault(text, text) for piece in pieces for text in piece]


@dataclass(frozen=True)
class _Spans:
    """S spans, question after question, best first. Lists, since their elements are read one by one."""

    begin_Q: list[int]
    start_S: list[int]
    end_S: list[int]
    start_logit_S: list[float]
    end_logit_S: list[float]
    score_S: list[float]
    lse_S: list[float]
    """Normalisers of start and end in the span's window, added."""

    def entries(
        self, row: int, context: str, n_best_size: int, *, apart: bool = False
    ) -> tuple[list[NBestEntry], list[float]]:
        """The n best answers of one question and their scores; probabilities are filled in when the list is whole.

        `apart`: without those that share a character with a better one.
        """
        entries: list[NBestEntry] = []
        scores: list[float] = []
        seen = set()
        own = slice(self.begin_Q[row], self.begin_Q[row + 1])
        columns = (self.start_S, self.end_S, self.start_logit_S, self.end_logit_S, self.score_S, self.lse_S)
        for start, end, start_logit, end_logit, score, lse in zip(*(column[own] for column in columns)):
            end = end_of_character(context, end)
            text = context[start:end]
            stripped = text.strip()
            if stripped != text:
                start += len(text) - len(text.lstrip())
                end = start + len(stripped)
            place = (start, end)
            if place in seen or not stripped:
                continue
            if apart and any(start < other_end and other < end for other, other_end in seen):
                continue
            seen.add(place)
            scores.append(score)
            entries.append(
                {
                    "text": stripped,
                    "probability": 0.0,
                    "score": math.exp(score - lse),
                    "start_logit": start_logit,
                    "end_logit": end_logit,
                    "start": start,
                    "end": end,
                }
            )
            if len(scores) == n_best_size:
                break
        return entries, scores


def _sorted_spans(
    windows: Windows,
    candidates: Candidates,
    config: SpanConfig,
    ids: Sequence[str],
    *,
    by_probability: bool = False,
) -> _Spans:
    """All candidates in characters. The same span comes once from each window that holds it, best score first.

    `by_probability`: the most probable first, each in its own window.
    """
    start_WK, end_WK = candidates.start_WK, candidates.end_WK
    assert len(start_WK) == len(windows.question_W), "one row of candidates per window"
    assert start_WK.shape[1] >= config.n_best_size, "each window gives its n best, or the question's could be missed"
    valid_WK = start_WK >= 0
    window_S = np.nonzero(valid_WK)[0]
    begin_S = windows.begin_W[window_S]
    question_S = windows.question_W[window_S]
    start_S = windows.offset_start_N[begin_S + start_WK[valid_WK]]
    end_S = windows.offset_end_N[begin_S + end_WK[valid_WK]]
    start_logit_S, end_logit_S = candidates.start_logit_WK[valid_WK], candidates.end_logit_WK[valid_WK]
    score_S = start_logit_S + end_logit_S
    lse_S = (candidates.lse_start_W + candidates.lse_end_W)[window_S]
    _check_finite(score_S, question_S, ids)
    rank_S = score_S.astype(np.float64) - lse_S if by_probability else score_S
    order = np.lexsort((end_S, start_S, -rank_S, question_S))  # stable: what is equal in all stays in window order
    return _Spans(
        begin_Q=np.searchsorted(question_S, np.arange(len(ids) + 1)).tolist(),
        start_S=start_S[order].tolist(),
        end_S=end_S[order].tolist(),
        start_logit_S=start_logit_S[order].tolist(),
        end_logit_S=end_logit_S[order].tolist(),
        score_S=score_S[order].tolist(),
        lse_S=lse_S[order].tolist(),
    )


def _empty_entries(windows: Windows, candidates: Candidates, ids: Sequence[str]) -> Iterator[tuple[float, NBestEntry]]:
    """Of each question the null score, its lowest over the windows, and the empty answer with that window's logits."""
    null_W = candidates.null_W
    _check_finite(null_W, windows.question_W, ids)
    first_Q, count_Q = np.unique(windows.question_W, return_index=True)[1], len(ids)
    assert len(first_Q) == count_Q and np.all(np.diff(windows.question_W) >= 0), "windows of every question, in order"
    lowest_Q = np.lexsort((null_W, windows.question_W))[first_Q]  # sorted, each question's windows keep their places
    log_probability_W = null_W - (candidates.lse_start_W + candidates.lse_end_W)
    columns = (
        null_W[lowest_Q],
        np.minimum.reduceat(log_probability_W, first_Q),
        candidates.null_start_W[lowest_Q],
        candidates.null_end_W[lowest_Q],
    )
    for null_score, log_probability, start_logit, end_logit in zip(*(column.tolist() for column in columns)):
        yield (
            null_score,
            NBestEntry(
                text="",
                probability=0.0,
                score=math.exp(log_probability),
                start_logit=start_logit,
                end_logit=end_logit,
                start=0,
                end=0,
            ),
        )


def _check_finite(score_C: np.ndarray, question_C: np.ndarray, ids: Sequence[str]) -> None:
    wrong_C = ~np.isfinite(score_C)
    if wrong_C.any():
        first = ids[int(question_C[wrong_C.argmax()])]
        raise ValueError(
            f"{int(wrong_C.sum())} scores are not finite, the first in question {first!r}: the model's logits overflowed "
            "or its weights are damaged; try without half precision"
        )
