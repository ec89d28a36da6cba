"""Best spans of every window -> one answer, an n-best list and a no-answer score for every question.

Spans of a question's windows are compared at once, by the characters that they cover: neighbouring windows share tokens, so
the same span comes from several, and counts once, with its best score. Among equal scores the span that starts
first wins, then the one that ends first. Answers are cut out of the context, without blanks at their edges and with the
accents and vowel signs of their last character; spans that are only blanks are not answers.

The null score of a question is its lowest over the windows (it has no answer only if no window holds one); its null odds
are the null score minus the best span's. Numpy only, no torch: this runs on rank 0, after the device is done.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from qa_accel.data.made_in_chunks import MadeInChunks, Through
from qa_accel.data.windows import Windows, end_of_character
from qa_accel.inference.answer_lists import Answers, Decision, Listing, NBestEntry, SeveralEntry
from qa_accel.inference.candidates import Candidates, SeveralCandidates
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.settings import SpanConfig
from qa_accel.inference.several_answers import several_answers

if TYPE_CHECKING:  # at run time numpy is enough
    from datasets import Dataset

CHUNK = 2048
"""Windows whose candidates are Python objects at a time, and the rest of those of the last question: some 30 MB with 20 spans
each."""


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

    What is decided is there at once; lists are made when they are read, some questions at a time, so that of many questions
    little more than `candidates` is in memory. Where no window has a valid span (an empty context, say) the answer is "", in
    data without unanswerable questions too. `calibration` adds confidences; nothing else depends on it.
    """
    ids: Sequence[str] = questions["id"][:]
    found = _Found(questions, windows, candidates, config, ids)
    threshold = config.null_score_diff_threshold or 0.0

    def decide(first: int, last: int, n_best_size: int) -> Iterator[Decision]:
        for listing in found.listings(first, last, n_best_size):
            yield listing.decide(threshold, calibration, version_2_with_negative=version_2_with_negative)

    def lists(first: int, last: int) -> list[list[NBestEntry]]:
        return [decision.entries for decision in decide(first, last, config.n_best_size)]

    made = MadeInChunks(ids, found.begin_C, lists)
    answers = Answers({}, {}, {}, made)
    if config.min_answer_score is not None:
        apart = MadeInChunks(ids, found.begin_C, found.spans_apart)
        among = partial(
            several_answers,
            min_answer_score=config.min_answer_score,
            version_2_with_negative=version_2_with_negative,
        )
        answers = replace(answers, candidates=apart, several=Through(among, apart))
    # The best span decides; confidences need the others too. The lists of a single chunk are kept: Reader reads them at once.
    whole = calibration is not None or len(found.begin_C) == 1
    for first, last in pairwise([*found.begin_C.tolist(), len(ids)]):
        decisions = list(decide(first, last, config.n_best_size if whole else 1))
        for key, decision in zip(ids[first:last], decisions, strict=True):
            answers.add(key, decision)
        if whole:
            made.keep(first, [decision.entries for decision in decisions])
    return answers


def shared_contexts(
    questions: "Dataset | Mapping[str, Sequence[str]]", first: int = 0, last: int | None = None
) -> list[str]:
    """The context of each question, or of rows [first, last). Equal ones are one string: hundreds of questions may share a
    long document."""
    shared: dict[str, str] = {}
    column = questions["context"]
    last = len(column) if last is None else last
    pieces = (column[row : min(row + 100, last)] for row in range(first, last, 100))
    return [shared.setdefault(text, text) for piece in pieces for text in piece]


class _Found:
    """Questions with the candidates of their windows, looked at some questions at a time. Axes: Q questions, C chunks."""

    def __init__(
        self,
        questions: "Dataset | Mapping[str, Sequence[str]]",
        windows: Windows,
        candidates: Candidates,
        config: SpanConfig,
        ids: Sequence[str],
    ):
        self.questions, self.windows, self.candidates, self.config = questions, windows, candidates, config
        parts = [candidates]
        if config.several:
            assert isinstance(candidates, SeveralCandidates), "made with settings that ask for several answers too"
            parts.insert(0, candidates.apart)
        for part in parts:
            assert len(part.start_WK) == len(windows.question_W), "one row of candidates per window"
            assert part.start_WK.shape[1] >= config.n_best_size, "each window gives its n best, or some could be missed"
            _check_finite(windows, part, ids)
        question_W = windows.question_W
        self.window_Q = np.searchsorted(question_W, np.arange(len(ids) + 1))
        """First window of each question, and the number of all windows."""
        in_order = np.all(np.diff(question_W) >= 0) and self.window_Q[-1] == len(question_W)
        assert in_order and np.all(np.diff(self.window_Q) > 0), "windows of every question, in order"
        self.begin_C = np.flatnonzero(np.diff(self.window_Q[:-1] // CHUNK, prepend=-1))
        """First question of each chunk."""

    def listings(self, first: int, last: int, n_best_size: int) -> Iterator[Listing]:
        """Of questions [first, last) the n best answers, not decided yet."""
        windows, part = self._windows_of(first, last)
        empty_entries = _empty_entries(part, self.window_Q[first : last + 1] - self.window_Q[first])
        spans = _sorted_spans(self.windows, part, windows, first, last)
        contexts = shared_contexts(self.questions, first, last)
        for row, (context, (null_score, empty)) in enumerate(zip(contexts, empty_entries, strict=True)):
            entries, scores = spans.entries(row, context, n_best_size)
            yield Listing(entries, scores, empty, null_score)

    def spans_apart(self, first: int, last: int) -> list[list[SeveralEntry]]:
        """Of questions [first, last) the best spans that share no character."""
        windows, part = self._windows_of(first, last, apart=True)
        spans = _sorted_spans(self.windows, part, windows, first, last, by_probability=True)
        return [
            [
                SeveralEntry(text=each["text"], start=each["start"], end=each["end"], score=each["score"])
                for each in spans.entries(row, context, self.config.n_best_size, apart=True)[0]
            ]
            for row, context in enumerate(shared_contexts(self.questions, first, last))
        ]

    def _windows_of(self, first: int, last: int, *, apart: bool = False) -> tuple[slice, Candidates]:
        whole = self.candidates
        if apart:
            assert isinstance(whole, SeveralCandidates), "several answers are asked for"
            whole = whole.apart
        windows = slice(int(self.window_Q[first]), int(self.window_Q[last]))
        return windows, Candidates(*(getattr(whole, each.name)[windows] for each in fields(Candidates)))


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
        marks = not context.isascii()  # combining marks are not: looking for them takes a fifth of this function
        own = slice(self.begin_Q[row], self.begin_Q[row + 1])
        columns = (self.start_S, self.end_S, self.start_logit_S, self.end_logit_S, self.score_S, self.lse_S)
        for start, end, start_logit, end_logit, score, lse in zip(*(column[own] for column in columns)):
            if marks:
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
    windows: Windows, candidates: Candidates, own: slice, first: int, last: int, *, by_probability: bool = False
) -> _Spans:
    """Candidates of questions [first, last), whose windows are `own`, in characters. The same span comes once from each window
    that holds it, best score first.

    `by_probability`: the most probable first, each in its own window.
    """
    start_WK, end_WK = candidates.start_WK, candidates.end_WK
    valid_WK = start_WK >= 0
    window_S = np.nonzero(valid_WK)[0]
    begin_S = windows.begin_W[own][window_S]
    question_S = windows.question_W[own][window_S] - first
    start_S = windows.offset_start_N[begin_S + start_WK[valid_WK]]
    end_S = windows.offset_end_N[begin_S + end_WK[valid_WK]]
    start_logit_S, end_logit_S = candidates.start_logit_WK[valid_WK], candidates.end_logit_WK[valid_WK]
    score_S = start_logit_S + end_logit_S
    lse_S = (candidates.lse_start_W + candidates.lse_end_W)[window_S]
    rank_S = score_S.astype(np.float64) - lse_S if by_probability else score_S
    order = np.lexsort((end_S, start_S, -rank_S, question_S))  # stable: what is equal in all stays in window order
    return _Spans(
        begin_Q=np.searchsorted(question_S, np.arange(last - first + 1)).tolist(),
        start_S=start_S[order].tolist(),
        end_S=end_S[order].tolist(),
        start_logit_S=start_logit_S[order].tolist(),
        end_logit_S=end_logit_S[order].tolist(),
        score_S=score_S[order].tolist(),
        lse_S=lse_S[order].tolist(),
    )


def _empty_entries(candidates: Candidates, window_Q: np.ndarray) -> Iterator[tuple[float, NBestEntry]]:
    """Of each question the null score, its lowest over the windows, and the empty answer with that window's logits.

    `window_Q`: the first window of each question, and the number of windows.
    """
    null_W, first_Q = candidates.null_W, window_Q[:-1]
    question_W = np.repeat(np.arange(len(first_Q)), np.diff(window_Q))
    lowest_Q = np.lexsort((null_W, question_W))[first_Q]  # sorted, each question's windows keep their places
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


def _check_finite(windows: Windows, candidates: Candidates, ids: Sequence[str]) -> None:
    """Spans before null scores."""
    null_W, wrong, first = candidates.null_W, 0, -1
    for begin in range(0, len(null_W), CHUNK):
        own = slice(begin, begin + CHUNK)
        score_WK = candidates.start_logit_WK[own] + candidates.end_logit_WK[own]
        wrong_W = (~np.isfinite(score_WK) & (candidates.start_WK[own] >= 0)).sum(axis=1)
        if first < 0 and wrong_W.any():
            first = begin + int(np.flatnonzero(wrong_W)[0])
        wrong += int(wrong_W.sum())
    if not wrong:
        wrong_W = ~np.isfinite(null_W)
        wrong, first = int(wrong_W.sum()), int(wrong_W.argmax()) if len(wrong_W) else -1
    if wrong:
        raise ValueError(
            f"{wrong} scores are not finite, the first in question {ids[int(windows.question_W[first])]!r}: the model's logits "
            "overflowed or its weights are damaged; try without half precision"
        )
