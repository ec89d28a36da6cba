"""A decoder that is slow and obvious: every window, every allowed pair of tokens, one after the other.

What `postprocess` and `topk_spans` do with arrays is compared with it. It shares no code with them.
"""

import math
from dataclasses import dataclass

import numpy as np

from qa_accel.data.windows import Windows
from qa_accel.inference.postprocess import Candidates


@dataclass
class Window:
    """One window as a person would write it down; context tokens are those with offsets."""

    offsets: list[tuple[int, int] | None]  # characters of the context, None for special tokens and the question
    start_logits: list[float]
    end_logits: list[float]
    null: int = 0

    def is_context(self, token: int) -> bool:
        return self.offsets[token] is not None

    def null_score(self) -> float:
        return score(self.start_logits[self.null], self.end_logits[self.null])


@dataclass
class Decoded:
    text: str
    best_text: str
    null_odds: float | None  # None: there is no span
    nbest: list[tuple[str, float]]  # text, probability


def score(start_logit: float, end_logit: float) -> float:
    return float(np.float32(start_logit) + np.float32(end_logit))


def normalisers(window: Window) -> list[float]:
    """Log of the summed exponentials of the start and of the end logits, over the context and the null position."""
    places = [token for token in range(len(window.offsets)) if window.is_context(token) or token == window.null]
    highest = [max(logits[token] for token in places) for logits in (window.start_logits, window.end_logits)]
    return [
        top + math.log(sum(math.exp(logits[token] - top) for token in places))
        for top, logits in zip(highest, (window.start_logits, window.end_logits))
    ]


def token_spans(window: Window, max_answer_length: int) -> list[tuple[float, int, int]]:
    """(score, first token, last token) of all allowed pairs, best first; equal ones by first, then by last token."""
    found = []
    for first in range(len(window.offsets)):
        for last in range(first, min(first + max_answer_length, len(window.offsets))):
            if window.is_context(first) and window.is_context(last):
                found.append((score(window.start_logits[first], window.end_logits[last]), first, last))
    return sorted(found, key=lambda span: (-span[0], span[1], span[2]))


def decode(
    context: str,
    windows: list[Window],
    *,
    n_best: int,
    max_answer_length: int,
    threshold: float = 0.0,
    has_unanswerable: bool = True,
) -> Decoded:
    """The answer to one question from all of its windows."""
    everywhere = []
    for window in windows:
        for value, first, last in token_spans(window, max_answer_length):
            everywhere.append((-value, window.offsets[first][0], window.offsets[last][1]))  # type: ignore[index]
    spans: dict[tuple[int, int], tuple[str, float]] = {}
    for negative, start, end in sorted(everywhere):
        while start < end and context[start].isspace():
            start += 1
        while start < end and context[end - 1].isspace():
            end -= 1
        if start < end and (start, end) not in spans and len(spans) < n_best:
            spans[start, end] = context[start:end], -negative
    scored = list(spans.values())
    if not scored:
        return Decoded("", "", None, [("", 1.0)])
    best_text, best = scored[0]
    null = min(window.null_score() for window in windows)
    if has_unanswerable:
        scored = sorted([*scored, ("", null)], key=lambda entry: -entry[1])  # stable: the empty answer after its equals
    total = sum(math.exp(value - scored[0][1]) for _, value in scored)
    nbest = [(text, math.exp(value - scored[0][1]) / total) for text, value in scored]
    text = "" if has_unanswerable and null - best > threshold else best_text
    return Decoded(text, best_text, null - best, nbest)


def windows_of(questions: list[list[Window]]) -> Windows:
    """The windows of each question as the flat arrays that the package holds them in; labels are not needed here."""
    flat = [window for windows in questions for window in windows]
    context = [[token for token in range(len(w.offsets)) if w.is_context(token)] or [0, -1] for w in flat]
    offsets = [offset or (0, 0) for window in flat for offset in window.offsets]
    null_W = np.array([window.null for window in flat], np.int32)
    return Windows(
        input_ids_N=np.zeros(len(offsets), np.int32),
        token_type_ids_N=None,
        offset_start_N=np.array([start for start, _ in offsets], np.int32),
        offset_end_N=np.array([end for _, end in offsets], np.int32),
        begin_W=np.concatenate([[0], np.cumsum([len(window.offsets) for window in flat])]).astype(np.int64),
        question_W=np.array([row for row, windows in enumerate(questions) for _ in windows], np.int32),
        context_begin_W=np.array([tokens[0] for tokens in context], np.int32),
        context_end_W=np.array([tokens[-1] + 1 for tokens in context], np.int32),
        null_W=null_W,
        start_W=null_W,
        end_W=null_W,
    )


def candidates_of(questions: list[list[Window]], *, count: int, max_answer_length: int) -> Candidates:
    """What the device would hand over: the `count` best token spans of each window."""
    flat = [window for windows in questions for window in windows]
    start_WK = np.full((len(flat), count), -1, np.int32)
    end_WK = np.full((len(flat), count), -1, np.int32)
    start_logit_WK = np.full((len(flat), count), -np.inf, np.float32)
    end_logit_WK = np.full((len(flat), count), -np.inf, np.float32)
    for row, window in enumerate(flat):
        for place, (_, first, last) in enumerate(token_spans(window, max_answer_length)[:count]):
            start_WK[row, place], end_WK[row, place] = first, last
            start_logit_WK[row, place], end_logit_WK[row, place] = window.start_logits[first], window.end_logits[last]
    nulls = np.array([[w.start_logits[w.null], w.end_logits[w.null], *normalisers(w)] for w in flat], np.float32)
    return Candidates(*nulls.T, start_WK, end_WK, start_logit_WK, end_logit_WK)
