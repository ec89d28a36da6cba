"""Tokens of questions and contexts, tokenized separately -> windows with labels, by array operations alone.

A tokenizer's pair template is special tokens around two runs of tokens, so a window is five pieces in a row:
special tokens, one text, special tokens, the other text, special tokens, where one of the texts is a slice of the
context. The slices follow from the lengths; the rest is one gather. There is no loop over tokens or windows.

Axes: Q questions (rows), A gold answers, P pieces (texts tokenized once), W windows, N all tokens one after the other.
"""

from dataclasses import dataclass

import numpy as np

from qa_accel.data.settings import WindowConfig
from qa_accel.data.windows import GoldSpans, Windows


@dataclass(frozen=True)
class TokenizedTexts:
    """Tokens of P texts, each tokenized alone and without special tokens."""

    ids_N: np.ndarray
    begin_P: np.ndarray
    """P + 1 entries: text p is the slice begin_P[p]:begin_P[p + 1]."""
    offset_start_N: np.ndarray | None = None
    offset_end_N: np.ndarray | None = None

    @property
    def lengths_P(self) -> np.ndarray:
        return np.diff(self.begin_P)


@dataclass(frozen=True)
class PairTemplate:
    """How a tokenizer writes a pair: special tokens before, between and after the two texts, and the token types."""

    question_first: bool
    special_ids: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    special_types: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None
    """Token types of the special tokens; None if the tokenizer gives no token types."""
    text_types: tuple[int, int]
    """Token types of the first and the second text."""
    null: tuple[int, int] | None
    """The token for "no answer": index of its group, and its index there. None: the window's first token."""

    @property
    def special_count(self) -> int:
        return sum(map(len, self.special_ids))


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Begin of each run of these lengths when concatenated, and, as the last entry, the end of all."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def ranges(begin: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Indices of the runs begin[i], begin[i] + 1, ... of lengths[i] each, one after the other."""
    placed = offsets_of(lengths)
    return np.repeat(begin - placed[:-1], lengths) + np.arange(placed[-1])


def context_slices(
    context_Q: np.ndarray, room_Q: np.ndarray, doc_stride: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slices of contexts of context_Q tokens, of which a window takes room_Q: question, first token, length, each (W,).

    As the tokenizers do it: a new slice begins room - doc_stride after the last one until one reaches the end.
    """
    step_Q = room_Q - doc_stride
    assert (step_Q > 0).all(), "check_tokenizer rejects a stride that leaves no step"
    count_Q = 1 + np.maximum(0, -(-(context_Q - room_Q) // step_Q))  # minus twice: division that rounds up
    question_W = np.repeat(np.arange(len(count_Q)), count_Q)
    first_W = (np.arange(len(question_W)) - offsets_of(count_Q)[question_W]) * step_Q[question_W]
    return question_W, first_W, np.minimum(context_Q[question_W] - first_W, room_Q[question_W])


def gold_tokens(contexts: TokenizedTexts, context_Q: np.ndarray, gold: GoldSpans) -> tuple[np.ndarray, np.ndarray]:
    """First and last token of the context that holds a character of the gold answer, (A,) each; last < first: none does.

    Tokens that cover no character are skipped. Offsets need not ascend: the running maximum of the ends passes
    a character exactly at the first token that ends after it, and so does the minimum of the starts from the end.
    """
    assert contexts.offset_start_N is not None and contexts.offset_end_N is not None, "contexts carry their offsets"
    start_N, end_N = contexts.offset_start_N.astype(np.int64), contexts.offset_end_N.astype(np.int64)
    empty_N = start_N >= end_N
    characters = 2 + max(end_N.max(initial=0), gold.end_A.max(initial=0), gold.begin_A.max(initial=0))
    # Every context gets its own range of numbers, so that one search over all tokens finds the place within it.
    base_N = np.repeat(np.arange(len(contexts.lengths_P)) * characters, contexts.lengths_P)
    context_A = context_Q[gold.question_A]
    base_A = context_A * characters
    highest_N = np.maximum.accumulate(base_N + np.where(empty_N, 0, end_N))
    lowest_N = np.minimum.accumulate((base_N + np.where(empty_N, characters - 1, start_N))[::-1])[::-1]
    begin_A = contexts.begin_P[:-1][context_A]
    first_A = np.searchsorted(highest_N, base_A + gold.begin_A, side="right") - begin_A
    last_A = np.searchsorted(lowest_N, base_A + gold.end_A, side="left") - 1 - begin_A
    return first_A, np.where(gold.begin_A < gold.end_A, last_A, -1)


def label(
    gold: GoldSpans,
    first_A: np.ndarray,
    last_A: np.ndarray,
    question_W: np.ndarray,
    slice_W: np.ndarray,
    context_begin_W: np.ndarray,
    context_end_W: np.ndarray,
    null_W: np.ndarray,
) -> dict[str, np.ndarray]:
    """Labels of windows holding the context's tokens from slice_W on, as fields of `Windows`: start_W and end_W are the
    question's first labelled answer that is complete in the window, null if none is.

    first_A and last_A count the context's tokens. A window with a part of an answer holds none: the part alone answers
    nothing, and a window further on holds the whole one, unless it is longer than doc_stride.
    """
    question_A = gold.question_A
    begin_Q = np.searchsorted(question_A, np.arange(1 + question_W.max(initial=-1)))
    count_Q = np.searchsorted(question_A, np.arange(len(begin_Q)), side="right") - begin_Q
    # X: pairs of a window and an answer of its question; H: those where the window holds the answer.
    window_X = np.repeat(np.arange(len(question_W)), count_Q[question_W])
    answer_X = ranges(begin_Q[question_W], count_Q[question_W])
    first_X, last_X = first_A[answer_X] - slice_W[window_X], last_A[answer_X] - slice_W[window_X]
    holds_X = (first_X <= last_X) & (first_X >= 0) & (last_X < (context_end_W - context_begin_W)[window_X])
    window_H = window_X[holds_X]
    start_H, end_H = (context_begin_W[window_H] + place_X[holds_X] for place_X in (first_X, last_X))
    labelled_H = np.unique(window_H, return_index=True)[1]  # of each window the first
    fields = {}
    if gold.labelled == "first":
        is_first_H = answer_X[holds_X] == begin_Q[question_W[window_H]]
        fields["left_out_W"] = np.zeros(len(question_W), bool)
        fields["left_out_W"][window_H[labelled_H[~is_first_H[labelled_H]]]] = True
        labelled_H = labelled_H[is_first_H[labelled_H]]
    elif gold.labelled == "all":
        window_G, start_G, end_G = np.unique(np.stack([window_H, start_H, end_H]), axis=1)
        fields["gold_begin_W"] = offsets_of(np.bincount(window_G, minlength=len(question_W)))
        fields |= {"gold_start_G": start_G.astype(np.int32), "gold_end_G": end_G.astype(np.int32)}
    start_W, end_W = null_W.astype(np.int32), null_W.astype(np.int32)
    start_W[window_H[labelled_H]] = start_H[labelled_H]
    end_W[window_H[labelled_H]] = end_H[labelled_H]
    return fields | {"start_W": start_W, "end_W": end_W}


def assemble(
    form: PairTemplate,
    questions: TokenizedTexts,
    contexts: TokenizedTexts,
    question_Q: np.ndarray,
    context_Q: np.ndarray,
    uncut_Q: np.ndarray,
    gold: GoldSpans,
    config: WindowConfig,
) -> Windows:
    """Windows of Q questions; question_Q and context_Q are the indices of their texts, uncut_Q the questions' tokens before
    they were cut."""
    assert contexts.offset_start_N is not None and contexts.offset_end_N is not None, "contexts carry their offsets"
    question_tokens_Q, context_tokens_Q = questions.lengths_P[question_Q], contexts.lengths_P[context_Q]
    room_Q = config.max_seq_length - form.special_count - question_tokens_Q
    question_W, slice_W, context_tokens_W = context_slices(context_tokens_Q, room_Q, config.doc_stride)
    question_tokens_W = question_tokens_Q[question_W]

    # All sources of windows in one array: the special tokens, then all questions, then all contexts.
    special_ids = [token for group in form.special_ids for token in group]
    source_N = np.concatenate([special_ids, questions.ids_N, contexts.ids_N]).astype(np.int32)
    outside = len(special_ids) + len(questions.ids_N)
    question_from_W = len(special_ids) + questions.begin_P[question_Q][question_W]
    context_from_W = outside + contexts.begin_P[context_Q][question_W] + slice_W
    before, between, after = map(len, form.special_ids)
    first, second = (question_from_W, question_tokens_W), (context_from_W, context_tokens_W)
    if not form.question_first:
        first, second = second, first
    parts = [(0, before), first, (before, between), second, (before + between, after)]
    from_W5 = np.stack([np.broadcast_to(begin, question_W.shape) for begin, _ in parts], axis=1)
    length_W5 = np.stack([np.broadcast_to(length, question_W.shape) for _, length in parts], axis=1)
    place_N = ranges(from_W5.ravel(), length_W5.ravel())
    part_W6 = np.concatenate([np.zeros_like(length_W5[:, :1]), np.cumsum(length_W5, axis=1)], axis=1)

    context_part = 3 if form.question_first else 1
    has_context_W = context_tokens_W > 0
    context_begin_W = np.where(has_context_W, part_W6[:, context_part], 0).astype(np.int32)
    context_end_W = (context_begin_W + context_tokens_W).astype(np.int32)
    null_W = np.zeros(len(question_W), np.int32)
    if form.null is not None:
        group, place = form.null
        null_W = (part_W6[:, 2 * group] + place).astype(np.int32)

    types_N = None
    if form.special_types is not None:
        special_types = [kind for group in form.special_types for kind in group]
        text_types = form.text_types if form.question_first else form.text_types[::-1]
        counts = [1] * len(special_types) + [len(questions.ids_N), len(contexts.ids_N)]
        types_N = np.repeat(np.array([*special_types, *text_types], np.uint8), counts)[place_N]
    no_offset_N = np.zeros(outside, np.int32)
    first_A, last_A = gold_tokens(contexts, context_Q, gold)
    labels = label(gold, first_A, last_A, question_W, slice_W, context_begin_W, context_end_W, null_W)
    return Windows(
        input_ids_N=source_N[place_N],
        token_type_ids_N=types_N,
        offset_start_N=np.concatenate([no_offset_N, contexts.offset_start_N])[place_N],
        offset_end_N=np.concatenate([no_offset_N, contexts.offset_end_N])[place_N],
        begin_W=offsets_of(part_W6[:, 5]),
        question_W=question_W.astype(np.int32),
        context_begin_W=context_begin_W,
        context_end_W=context_end_W,
        null_W=null_W,
        question_cut_Q=uncut_Q > config.max_query_length,
        question_tokens_Q=uncut_Q.astype(np.int32),
        **labels,
    )
