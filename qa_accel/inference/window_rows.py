"""Logits of a batch as arrays -> one row of numbers per window; rows of all windows, in any order -> candidates. Numpy only.

A row is the window's index, the logits of its null position, the normalisers of its start and end logits, and its n best
spans: 5 + 4 n numbers of 32 bits, whatever the window's length; where several answers are asked for, also its n best spans that
share no token: 4 n more. `candidate_rows.py` makes the same row on a device.
"""

import numpy as np

from qa_accel.batching.plan import NOTHING
from qa_accel.batching.rows import ArrayBatch
from qa_accel.inference.postprocess import Candidates, SeveralCandidates
from qa_accel.inference.settings import SpanConfig


def columns(config: SpanConfig) -> int:
    """Numbers per row."""
    return 5 + 4 * config.n_best_size * (2 if config.several else 1)


def window_rows(start_BL: np.ndarray, end_BL: np.ndarray, batch: ArrayBatch, config: SpanConfig) -> np.ndarray:
    """(B, `columns(config)`) int32, from float32 logits: see `candidate_rows`.

    The normalisers are sums in another order than on a device, and equal its to some units in the last place.
    """
    rows_BC = np.empty((len(batch.index_B), columns(config)), np.int32)
    for b, (index, null, shift) in enumerate(zip(*(x.tolist() for x in (batch.index_B, batch.null_B, batch.shift_B)))):
        start_L, end_L, context_L = start_BL[b], end_BL[b], batch.context_BL[b]
        lse = normalisers(start_L, end_L, context_L, null)
        fill_row(rows_BC[b], index, start_L, end_L, context_L, null, lse, config, shift)
    return rows_BC


def normalisers(
    start_L: np.ndarray, end_L: np.ndarray, context_L: np.ndarray, null: int
) -> tuple[np.float32, np.float32]:
    """Of one window's start and end logits."""
    places_L = context_L.copy()  # where an answer, or "no answer", may be
    places_L[null] = True
    return _lse(start_L[places_L]), _lse(end_L[places_L])


def fill_row(
    row_C: np.ndarray,
    index: int,
    start_L: np.ndarray,
    end_L: np.ndarray,
    context_L: np.ndarray,
    null: int,
    lse: tuple[np.float32, np.float32],
    config: SpanConfig,
    shift: int = 0,
) -> None:
    """One window's row, from float32 logits. `shift`: columns before its first token."""
    row_C[0] = index
    row_C[1:5] = np.array([start_L[null], end_L[null], *lse], np.float32).view(np.int32)
    searches = (best_spans, best_spans_apart) if config.several else (best_spans,)
    for search, row_C4 in zip(searches, np.split(row_C[5:], len(searches)), strict=True):
        spans = search(start_L, end_L, context_L, config.max_answer_length, config.n_best_size)
        _fill_spans(row_C4.reshape(4, config.n_best_size), *spans, start_L, end_L, shift)


def _fill_spans(
    row_4K: np.ndarray, first_K: np.ndarray, last_K: np.ndarray, start_L: np.ndarray, end_L: np.ndarray, shift: int
) -> None:
    found = len(first_K)
    row_4K[:2, found:] = -1
    row_4K[2:, found:] = np.array(-np.inf, np.float32).view(np.int32)
    row_4K[0, :found], row_4K[1, :found] = first_K - shift, last_K - shift
    row_4K[2, :found] = start_L[first_K].view(np.int32)
    row_4K[3, :found] = end_L[last_K].view(np.int32)


def best_spans(
    start_L: np.ndarray, end_L: np.ndarray, context_L: np.ndarray, max_answer_length: int, n_best: int
) -> tuple[np.ndarray, np.ndarray]:
    """First and last tokens of one window's n best spans, or of as many as there are, in the order of `topk_spans.py`.

    Every allowed pair is scored: on a host that is less work than the search for the starts that could matter.
    """
    place_C = np.flatnonzero(context_L)
    first_P, last_P = (place_C[side] for side in _pairs(place_C, max_answer_length))
    score_P = start_L[first_P] + end_L[last_P]
    unknown_P = np.isnan(score_P)
    rank_P = np.where(unknown_P, np.float32(np.inf), score_P)
    if len(rank_P) > n_best:
        least = np.partition(rank_P, len(rank_P) - n_best)[len(rank_P) - n_best]
        kept = np.flatnonzero(rank_P >= least)
    else:
        kept = np.arange(len(rank_P))
    order = kept[np.lexsort((-rank_P[kept], ~unknown_P[kept]))][
        :n_best
    ]  # stable: pairs are in order of first, then last
    return first_P[order], last_P[order]


def best_spans_apart(
    start_L: np.ndarray, end_L: np.ndarray, context_L: np.ndarray, max_answer_length: int, n_best: int
) -> tuple[np.ndarray, np.ndarray]:
    """As `best_spans`, of the spans that share no token with a better one of these (`spans_apart.py`)."""
    place_C = np.flatnonzero(context_L)
    first_P, last_P = (place_C[side] for side in _pairs(place_C, max_answer_length))
    score_P = start_L[first_P] + end_L[last_P]
    rank_P = np.where(np.isnan(score_P), np.float32(np.inf), score_P)
    order_P = np.lexsort((-rank_P, ~np.isnan(score_P)))  # stable: pairs are in order of first, then last
    first_P, last_P = first_P[order_P], last_P[order_P]
    chosen: list[tuple[int, int]] = []
    while len(first_P) and len(chosen) < n_best:
        first, last = int(first_P[0]), int(last_P[0])
        chosen.append((first, last))
        apart_P = (last_P < first) | (first_P > last)
        first_P, last_P = first_P[apart_P], last_P[apart_P]
    first_K, last_K = np.array(chosen, np.int64).reshape(-1, 2).T
    return first_K, last_K


def _pairs(place_C: np.ndarray, max_answer_length: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of context tokens, as places in place_C, whose span has at most so many tokens; by first, then by last."""
    beyond_C = np.searchsorted(place_C, place_C + max_answer_length)
    count_C = beyond_C - np.arange(len(place_C))
    first_P = np.repeat(np.arange(len(place_C)), count_C)
    begin_C = np.cumsum(count_C) - count_C
    return first_P, first_P + np.arange(len(first_P)) - begin_C[first_P]


def _lse(logits: np.ndarray) -> np.float32:
    """Log of the sum of exponentials, computed in double precision."""
    wide = logits.astype(np.float64)
    highest = wide.max()
    return np.float32(highest + np.log(np.exp(wide - highest).sum()))


class WindowRows:
    """Rows of all windows in place; allocated once."""

    def __init__(self, windows: int, config: SpanConfig):
        self.rows_WC = np.zeros((windows, columns(config)), np.int32)
        self.present_W = np.zeros(windows, bool)
        self.several = config.several

    def place(self, rows_BC: np.ndarray) -> None:
        rows = rows_BC[rows_BC[:, 0] != NOTHING]
        self.rows_WC[rows[:, 0]] = rows
        self.present_W[rows[:, 0]] = True

    def candidates(self) -> Candidates:
        assert self.present_W.all(), "every window of the plan came back"
        nulls = np.ascontiguousarray(self.rows_WC[:, 1:5].T).view(np.float32)
        best, *apart = (_columns(part) for part in np.split(self.rows_WC[:, 5:], 2 if self.several else 1, axis=1))
        if not apart:
            return Candidates(*nulls, **best)
        return SeveralCandidates(*nulls, **best, apart=Candidates(*nulls, **apart[0]))


def _columns(spans_WC: np.ndarray) -> dict[str, np.ndarray]:
    """Views: of many windows these are most of what rank 0 holds."""
    start, end, start_logit, end_logit = np.split(spans_WC, 4, axis=1)
    return dict(
        start_WK=start,
        end_WK=end,
        start_logit_WK=start_logit.view(np.float32),
        end_logit_WK=end_logit.view(np.float32),
    )
