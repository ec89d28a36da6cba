"""A batch gives the model every token of its windows, and the loss the same number, padded left, right or packed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qa_accel.batching.collate import Batch, PackedCollator, PaddedCollator, batch_loader, window_logits
from qa_accel.data.windows import TaughtWindows, Windows
from qa_accel.training.loss import span_loss

PAD = 99


def windows_of(lengths: list[int]) -> Windows:
    """Window w has the tokens 100 w + 0, 1, 2, ...; the context is all but its first and last token, which has type 1.

    The answer is the context's first two tokens. Arrays are read-only, as those from a memory-mapped file are.
    """
    begin_W = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = [100 * w + np.arange(n) for w, n in enumerate(lengths)]
    per_window = np.array(lengths, np.int32)
    windows = Windows(
        input_ids_N=np.concatenate(tokens).astype(np.int32),
        token_type_ids_N=np.concatenate([np.arange(n) > 0 for n in lengths]).astype(np.uint8),
        offset_start_N=np.zeros(begin_W[-1], np.int32),
        offset_end_N=np.zeros(begin_W[-1], np.int32),
        begin_W=begin_W,
        question_W=np.arange(len(lengths), dtype=np.int32),
        context_begin_W=np.ones_like(per_window),
        context_end_W=per_window - 1,
        null_W=np.zeros_like(per_window),
        start_W=np.ones_like(per_window),
        end_W=np.full_like(per_window, 2),
    )
    for array in vars(windows).values():
        if array is not None:
            array.flags.writeable = False
    return windows


def padded(windows: Windows, index: list[int], **options) -> Batch:
    return PaddedCollator(windows, pad_token_id=PAD, token_type_ids=True, **options)(np.array(index))


def packed(windows: Windows, index: list[int], row_tokens: int, max_length: int, **options) -> Batch:
    collate = PackedCollator(
        windows, row_tokens=row_tokens, max_length=max_length, pad_token_id=PAD, token_type_ids=True, **options
    )
    return collate(np.array(index))


def test_right_padding_by_hand():
    # Windows of 5 and 4 tokens in rows of 6, and a row for nothing, which holds the shortest window.
    batch = padded(windows_of([4, 5]), [1, 0, -1], pad_to_multiple_of=3)
    assert batch.inputs["input_ids"].tolist() == [
        [100, 101, 102, 103, 104, PAD],
        [0, 1, 2, 3, PAD, PAD],
        [0, 1, 2, 3, PAD, PAD],
    ]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0]]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0]]
    assert batch.index_B.tolist() == [1, 0, -1]
    assert batch.weight_B.tolist() == [1.0, 1.0, 0.0]
    assert batch.start_B.tolist() == [1, 1, 1] and batch.end_B.tolist() == [2, 2, 2]
    assert batch.null_B.tolist() == batch.shift_B.tolist() == [0, 0, 0]
    assert batch.context_BL.int().tolist() == [[0, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]


def test_left_padding_shifts_all_that_counts_columns():
    # Breaks if labels stay where they were in the unpadded window (1 label of 64 was right so in the usual script).
    batch = padded(windows_of([4, 5]), [1, 0], pad_to_multiple_of=6, padding_side="left")
    assert batch.inputs["input_ids"].tolist() == [[PAD, 100, 101, 102, 103, 104], [PAD, PAD, 0, 1, 2, 3]]
    assert batch.inputs["attention_mask"].tolist() == [[0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert batch.shift_B.tolist() == batch.null_B.tolist() == [1, 2]
    assert batch.start_B.tolist() == [2, 3] and batch.end_B.tolist() == [3, 4]
    assert batch.context_BL.int().tolist() == [[0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 0]]


def test_a_packed_row_by_hand():
    # Windows of 5 and 4 tokens, a window of nothing, then 7 tokens of tail in fillers no longer than 6.
    batch = packed(windows_of([4, 5]), [1, 0, -1], row_tokens=16, max_length=6, position_offset=2)
    row = [100, 101, 102, 103, 104, 0, 1, 2, 3] + [PAD] * 7
    assert batch.inputs["input_ids"].tolist() == [row]
    positions = [2, 3, 4, 5, 6, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7, 2]
    assert batch.inputs["position_ids"].tolist() == [positions]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 1, 1, 1, 1, 0, 1, 1, 1] + [0] * 7]
    for name in ("cu_seq_lens_q", "cu_seq_lens_k"):
        assert batch.inputs[name].dtype == torch.int32
        assert batch.inputs[name].tolist() == [0, 5, 9, 9, 15, 16, 16]
    assert batch.inputs["max_length_q"] == batch.inputs["max_length_k"] == 6
    assert "attention_mask" not in batch.inputs, "it would undo what cu_seq_lens says"
    assert batch.index_B.tolist() == [1, 0, -1]
    assert batch.weight_B.tolist() == [1.0, 1.0, 0.0]
    assert batch.start_B.tolist() == [1, 1, 1] and batch.end_B.tolist() == [2, 2, 2]
    assert batch.shift_B.tolist() == [0, 0, 0]
    assert batch.context_BL.int().tolist() == [[0, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]


def taught(lengths: list[int]) -> TaughtWindows:
    """Windows whose token k has the teachers' start logits k and k + 1, their mean being k + 0.5, and the end logit -k twice."""
    windows = windows_of(lengths)
    k_N = np.concatenate([np.arange(n) for n in lengths]).astype(np.float16)
    starts, ends = (k_N, k_N.astype(np.float32) + 1), (-k_N, -k_N)
    return TaughtWindows(**vars(windows), teacher_start_MN=starts, teacher_end_MN=ends)


def test_the_teachers_logits_are_where_their_tokens_are():
    """Windows of 5 and 4 tokens. Breaks if left padding does not shift them, if a row shows its neighbour's, or if the mean is
    that of float16."""
    right = padded(taught([4, 5]), [1, 0], pad_to_multiple_of=6)
    assert right.teacher_start_BL is not None and right.teacher_start_BL.dtype == torch.float32
    assert right.teacher_start_BL.tolist() == [[0.5, 1.5, 2.5, 3.5, 4.5, 0], [0.5, 1.5, 2.5, 3.5, 0, 0]]
    left = padded(taught([4, 5]), [1, 0], pad_to_multiple_of=6, padding_side="left")
    assert left.teacher_start_BL is not None and left.teacher_end_BL is not None
    assert left.teacher_start_BL.tolist() == [[0, 0.5, 1.5, 2.5, 3.5, 4.5], [0, 0, 0.5, 1.5, 2.5, 3.5]]
    assert left.teacher_end_BL.tolist() == [[0, 0, -1, -2, -3, -4], [0, 0, 0, -1, -2, -3]]
    row = packed(taught([4, 5]), [1, 0, -1], row_tokens=16, max_length=6)
    assert row.teacher_end_BL is not None
    assert row.teacher_end_BL[:2].tolist() == [[0, -1, -2, -3, -4, 0], [0, -1, -2, -3, 0, 0]]


def test_a_batch_takes_over_the_teachers_logits_of_another_one():
    """A captured step reads the same tensors again and again. Breaks if they are not refilled, or if a batch without a teacher
    cannot be copied."""
    static = packed(taught([4, 5]), [0], row_tokens=16, max_length=6)
    other = packed(taught([4, 5]), [1], row_tokens=16, max_length=6)
    assert static.teacher_start_BL is not None and not torch.equal(static.teacher_start_BL, other.teacher_start_BL)
    static.copy_from(other)
    assert torch.equal(static.teacher_start_BL, other.teacher_start_BL)
    plain = packed(windows_of([4, 5]), [0], row_tokens=16, max_length=6)
    assert plain.teacher_start_BL is None and plain.to("cpu").teacher_end_BL is None
    plain.copy_from(packed(windows_of([4, 5]), [1], row_tokens=16, max_length=6))
    assert plain.index_B.tolist() == [1]


lengths_and_index = st.lists(st.integers(3, 20), min_size=1, max_size=8).flatmap(
    lambda lengths: st.tuples(
        st.just(lengths), st.lists(st.integers(-1, len(lengths) - 1), min_size=len(lengths), max_size=len(lengths))
    )
)


def batches_of_every_kind(lengths: list[int], index: list[int]) -> list[Batch]:
    windows = windows_of(lengths)
    return [
        padded(windows, index),
        padded(windows, index, padding_side="left"),
        packed(windows, index, row_tokens=8 * 20, max_length=20),
    ]


@given(lengths_and_index)
def test_each_windows_row_holds_its_own_tokens_whatever_the_batch(case):
    # The token ids serve as logits. Breaks if a row begins a token too early, or runs into its neighbour.
    lengths, index = case
    for batch in batches_of_every_kind(lengths, index):
        ids = batch.inputs["input_ids"].float()
        start_BL, end_BL, token_BL = window_logits(ids, ids + 0.5, batch)
        for b, w in enumerate(index):
            if w >= 0:
                own = 100.0 * w + torch.arange(lengths[w])
                assert torch.equal(start_BL[b][token_BL[b]], own)
                assert torch.equal(end_BL[b][token_BL[b]], own + 0.5)
                assert start_BL[b, batch.start_B[b]] == 100 * w + 1
                assert start_BL[b, batch.end_B[b]] == 100 * w + 2
                assert start_BL[b, batch.null_B[b]] == 100 * w
                assert torch.equal(start_BL[b][batch.context_BL[b]], own[1:-1])
                places = torch.arange(token_BL.shape[1])[token_BL[b]] - batch.shift_B[b]
                assert places.tolist() == list(range(lengths[w]))


@given(lengths_and_index)
def test_no_window_or_filler_of_a_packed_row_is_too_long(case):
    # Breaks if the tail is one window: its last tokens would have positions that the model has no embedding for.
    lengths, index = case
    batch = packed(windows_of(lengths), index, row_tokens=8 * 20, max_length=20)
    boundaries = batch.inputs["cu_seq_lens_q"]
    assert boundaries[0] == 0 and boundaries[-1] == 8 * 20
    assert boundaries.diff().min() >= 0 and boundaries.diff().max() <= 20
    assert batch.inputs["position_ids"].max() < 20


def test_packed_shapes_are_those_of_every_other_batch():
    # Breaks if the number of fillers follows the tail: then each other number of windows compiles the step again.
    windows = windows_of([3, 20, 7, 5])
    batches = [packed(windows, index, 40, 20) for index in ([0, 1, 2], [3, -1, -1], [-1, -1, -1])]
    shapes = [{name: x.shape for name, x in b.inputs.items() if isinstance(x, torch.Tensor)} for b in batches]
    assert shapes[0] == shapes[1] == shapes[2]
    assert {b.context_BL.shape for b in batches} == {(3, 20)}


def loss_by_hand(start_logits: list[np.ndarray], end_logits: list[np.ndarray]) -> float:
    def cross_entropy(logits: np.ndarray, position: int) -> float:
        return float(np.log(np.exp(logits).sum()) - logits[position])

    return sum((cross_entropy(s, 1) + cross_entropy(e, 2)) / 2 for s, e in zip(start_logits, end_logits))


def test_the_loss_is_each_windows_own_softmax_in_every_kind_of_batch():
    # Logits everywhere, also on padding and on the tail, where they must not count. Breaks if a softmax runs over
    # padding (the usual heads' loss grows with it), over the whole row, or if fill has a share.
    lengths, index = [6, 4, 9], [2, 0, -1, 1]
    for batch in batches_of_every_kind(lengths, index):
        shape = batch.inputs["input_ids"].shape
        generator = torch.Generator().manual_seed(0)
        start_logits, end_logits = torch.randn(2, *shape, generator=generator).requires_grad_()
        start_BL, end_BL, token_BL = window_logits(start_logits, end_logits, batch)
        real = [0, 1, 3]
        own_start = [start_BL[b][token_BL[b]].detach().numpy() for b in real]
        own_end = [end_BL[b][token_BL[b]].detach().numpy() for b in real]
        assert [len(x) for x in own_start] == [9, 6, 4]
        loss = span_loss(start_logits, end_logits, batch)
        torch.testing.assert_close(loss.item(), loss_by_hand(own_start, own_end), atol=1e-5, rtol=1e-6)

        start_gradient, end_gradient = torch.autograd.grad(loss, [start_logits, end_logits])
        assert torch.isfinite(start_gradient).all() and torch.isfinite(end_gradient).all()
        assert (start_gradient != 0).sum() == 9 + 6 + 4, "only tokens of windows get a gradient"


def test_a_batch_of_nothing_but_fill_has_no_loss_and_no_gradient():
    # Ranks of the last step may have no window at all, and still have to take part. Breaks if 0 * NaN is computed.
    for batch in batches_of_every_kind([6, 4], [-1, -1]):
        logits = torch.randn(batch.inputs["input_ids"].shape).requires_grad_()
        loss = span_loss(logits, logits, batch)
        loss.backward()
        assert loss.item() == 0.0
        assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_the_loss_of_half_precision_logits_is_computed_in_float32():
    # bfloat16 has 8 bits: summed in it, 64 windows of loss 4.27 would be off by whole units.
    batch = padded(windows_of([72] * 64), list(range(64)))
    logits = torch.zeros(64, 72, dtype=torch.bfloat16)
    loss = span_loss(logits, logits, batch)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.item(), 64 * np.log(72), rtol=1e-6, atol=0)


def test_rows_are_never_rounded_up_beyond_max_length():
    # A model of 10 positions takes windows of 10 tokens; 16 columns would be an index error in its embedding.
    windows = windows_of([10, 4])
    assert padded(windows, [0, 1], max_length=10).context_BL.shape == (2, 10)
    assert padded(windows, [0, 1]).context_BL.shape == (2, 16)


def test_windows_that_do_not_fit_are_refused_with_their_size():
    windows = windows_of([10, 4])
    with pytest.raises(ValueError, match="longest window has 10 tokens, rows may have 8"):
        padded(windows, [0], max_length=8)
    with pytest.raises(ValueError, match="longest window has 10 tokens, max_length is 8"):
        packed(windows, [0], row_tokens=64, max_length=8)
    with pytest.raises(ValueError, match="a batch of 14 tokens for rows of 13"):
        packed(windows, [0, 1], row_tokens=13, max_length=10)


def test_models_without_token_types_get_none_and_others_get_zeros_where_the_tokenizer_gives_none():
    windows = windows_of([4])
    untyped = Windows(**{**vars(windows), "token_type_ids_N": None})
    assert "token_type_ids" not in PaddedCollator(windows, pad_token_id=PAD)(np.array([0])).inputs
    assert "token_type_ids" not in padded(untyped, [0]).inputs  # the model makes zeros itself, of the row's shape
    assert packed(untyped, [0], 8, 4).inputs["token_type_ids"].tolist() == [[0] * 8]
    row = PackedCollator(windows, row_tokens=8, max_length=4, pad_token_id=PAD)(np.array([0]))
    assert "token_type_ids" not in row.inputs


def test_to_moves_every_tensor_and_leaves_numbers_alone():
    # Breaks if a new field is forgotten: the step would then wait for a copy, or fail on the device.
    gold = dict(gold_begin_W=np.array([0, 0, 1]), gold_start_G=np.array([1]), gold_end_G=np.array([2]))
    windows = TaughtWindows(**vars(taught([4, 5])) | gold)
    batch = packed(windows, [0, 1], 16, 8).to("meta", non_blocking=True)
    others = {name: value for name, value in vars(batch).items() if name != "inputs"}
    tensors = [*others.values(), *(x for x in batch.inputs.values() if not isinstance(x, int))]
    assert len(tensors) == 11 + 5
    assert all(x.device.type == "meta" for x in tensors)
    assert batch.inputs["max_length_q"] == 8


def test_the_loader_keeps_the_plans_order_and_resumes_at_any_entry():
    # Breaks if the order is not the plan's, or if the first entries are made to be thrown away.
    windows = windows_of([4, 5, 6, 7, 8])
    made = []

    def collate(index_B: np.ndarray) -> Batch:
        made.append(index_B.tolist())
        return PaddedCollator(windows, pad_token_id=PAD)(index_B)

    plan = np.array([[3], [1], [4], [0], [2]])
    loader = batch_loader(collate, plan, first=2)
    assert len(loader) == 3
    assert [batch.index_B.tolist() for batch in loader] == [[4], [0], [2]]
    assert made == [[4], [0], [2]]


def test_the_loader_leaves_the_global_random_state_alone():
    # Dropout draws from it: a resumed run must find it as it was saved. torch's own loader draws a number from it.
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    list(batch_loader(PaddedCollator(windows_of([4]), pad_token_id=PAD), np.array([[0]])))
    assert torch.equal(before, torch.random.get_rng_state())
