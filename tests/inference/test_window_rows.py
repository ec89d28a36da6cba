"""The rows that are made of arrays, without torch, against the device's and against a decoder that tries every pair."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import Window, token_spans

from qa_accel.batching.collate import PaddedCollator
from qa_accel.batching.rows import ArrayBatch
from qa_accel.data.windows import Windows
from qa_accel.inference import topk_spans
from qa_accel.inference.candidate_rows import candidate_rows
from qa_accel.inference.settings import SpanConfig
from qa_accel.inference.window_rows import WindowRows, best_spans, columns, window_rows


@st.composite
def logits_and_context(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(L,) start and end logits and the context's tokens. In steps of a half many scores are equal, 0.0 and -0.0 among them."""
    length = draw(st.integers(1, 24))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = generator.normal(size=(2, length)).astype(np.float32) * 2
    if draw(st.booleans()):
        logits = np.round(logits * 2).astype(np.float32) / np.float32(2)
    if draw(st.integers(0, 5)) == 0:
        logits[draw(st.integers(0, 1)), draw(st.integers(0, length - 1))] = draw(
            st.sampled_from([np.nan, np.inf, -np.inf])
        )
    return logits[0], logits[1], generator.random(length) < draw(st.sampled_from([0.0, 0.2, 0.9, 1.0]))


@settings(max_examples=150)
@given(logits_and_context(), st.integers(1, 30), st.integers(1, 3) | st.integers(1, 40))
def test_it_finds_the_devices_spans_in_the_devices_order(case, max_answer_length, n_best):
    """Breaks if a pair is lost or allowed wrongly, equal scores come in another order, or one that is no number is hidden."""
    start_L, end_L, context_L = case
    of_device = topk_spans.best_spans(*(torch.from_numpy(array)[None] for array in case), max_answer_length, n_best)
    expected = [pair for pair in zip(*(tensor[0].tolist() for tensor in of_device[:2])) if pair[0] >= 0]
    first_K, last_K = best_spans(start_L, end_L, context_L, max_answer_length, n_best)
    assert list(zip(first_K.tolist(), last_K.tolist())) == expected
    if np.isfinite(start_L).all() and np.isfinite(end_L).all():
        window = Window([(0, 1) if inside else None for inside in context_L], start_L.tolist(), end_L.tolist())
        tried = token_spans(window, max_answer_length)[:n_best]
        assert expected == [(first, last) for _, first, last in tried]


def windows_of(lengths: list[int]) -> Windows:
    """Windows whose first third is no context; every other one has no context at all."""
    length_W = np.array(lengths)
    begin_W = np.concatenate([[0], np.cumsum(length_W)]).astype(np.int64)
    zeros_N, null_W = np.zeros(begin_W[-1], np.int32), (length_W // 4).astype(np.int32)
    empty_W = np.arange(len(lengths)) % 2 == 1
    begin, end = length_W // 3, length_W
    return Windows(
        input_ids_N=zeros_N,
        token_type_ids_N=None,
        offset_start_N=zeros_N,
        offset_end_N=zeros_N,
        begin_W=begin_W,
        question_W=np.arange(len(lengths), dtype=np.int32),
        context_begin_W=np.where(empty_W, 0, begin).astype(np.int32),
        context_end_W=np.where(empty_W, 0, end).astype(np.int32),
        null_W=null_W,
        start_W=null_W,
        end_W=null_W,
    )


def test_a_batchs_rows_are_the_devices_to_the_bit_but_for_the_order_of_a_sum():
    """Padded on either side, windows without context, fewer spans than are asked for. Columns 3 and 4 are the normalisers,
    whose sums may differ in the last places. Breaks if a position counts padding, or a column is another one."""
    config, generator = SpanConfig(n_best_size=7, max_answer_length=4), np.random.default_rng(3)
    for side in ("left", "right"):
        collate = PaddedCollator(windows_of([9, 5, 16, 3, 12]), pad_token_id=0, padding_side=side)
        index_B = np.array([2, 4, 0, 1, 3])
        batch, arrays = collate(index_B), collate.arrays(index_B)
        start_BL, end_BL = generator.normal(size=(2, *arrays.context_BL.shape)).astype(np.float32)
        of_device = candidate_rows(torch.from_numpy(start_BL), torch.from_numpy(end_BL), batch, config).numpy()
        rows = window_rows(start_BL, end_BL, arrays, config)
        assert rows.shape == (5, columns(config)) and rows.dtype == np.int32
        others = [column for column in range(columns(config)) if column not in (3, 4)]
        assert np.array_equal(rows[:, others], of_device[:, others])
        assert np.allclose(rows[:, 3:5].view(np.float32), of_device[:, 3:5].view(np.float32), rtol=1e-6)
        assert (rows[:, 5] >= 0).tolist() == [True, True, True, False, False], "windows 1 and 3 have no context"
        of_arrays = candidate_rows(start_BL, end_BL, batch, config)
        assert np.array_equal(of_arrays.numpy(), rows), "a model outside of torch takes the same way in predict.py"


def test_a_normaliser_is_the_log_of_a_sum_over_context_and_null():
    """Breaks if another token counts: by hand, log(e^1 + e^2 + e^3), where the null position has 1, the context 2 and 3."""
    one = np.ones(1, np.int64)
    batch = ArrayBatch({}, one * 0, one, one, one, one, np.array([[False, False, True, True]]), one * 0)
    logits_BL = np.array([[9, 1, 2, 3]], np.float32)
    rows = window_rows(logits_BL, logits_BL, batch, SpanConfig(n_best_size=1))
    expected = np.log(np.exp([1.0, 2.0, 3.0]).sum())
    assert np.allclose(rows[0, 3:5].view(np.float32), expected, atol=1e-6)
    assert rows[0, 1:3].view(np.float32).tolist() == [1.0, 1.0]


def test_rows_may_come_in_any_order():
    rows = WindowRows(3, SpanConfig(n_best_size=1))
    for index in ([2], [-1, 0], [1]):
        part = np.zeros((len(index), 9), np.int32)
        part[:, 0], part[:, 5] = index, np.array(index) * 10
        rows.place(part)
    assert rows.candidates().start_WK[:, 0].tolist() == [0, 10, 20]
