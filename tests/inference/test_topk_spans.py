"""The search on the device against one over all pairs, and its independence of batches, padding and compilation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import Window, token_spans

from qa_accel.inference.topk_spans import best_spans

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def expected(start_BL, end_BL, context_BL, max_answer_length: int, n_best: int) -> list[list[tuple[float, int, int]]]:
    """(score, first, last) of the n best spans of each window, one pair after the other."""
    rows = []
    for starts, ends, context in zip(start_BL.tolist(), end_BL.tolist(), context_BL.tolist()):
        window = Window([(0, 1) if inside else None for inside in context], starts, ends)
        rows.append(token_spans(window, max_answer_length)[:n_best])
    return rows


def found(spans) -> list[list[tuple[float, int, int]]]:
    first_BK, last_BK, start_logit_BK, end_logit_BK = (tensor.cpu() for tensor in spans)
    score_BK = start_logit_BK + end_logit_BK
    rows = zip(score_BK.tolist(), first_BK.tolist(), last_BK.tolist())
    return [[span for span in zip(*row) if span[1] >= 0] for row in rows]


@st.composite
def batches(draw) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    B, L = draw(st.integers(1, 3)), draw(st.integers(1, 24))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Steps of a half make many scores equal, 0.0 and -0.0 among them; without them, none.
    step = draw(st.sampled_from([0.5, None]))
    logits = generator.normal(size=(2, B, L)).astype(np.float32) * 2
    if step:
        logits = np.round(logits / step).astype(np.float32) * np.float32(step)
    context_BL = torch.from_numpy(generator.random((B, L)) < draw(st.sampled_from([0.2, 0.9, 1.0])))
    return torch.from_numpy(logits[0]), torch.from_numpy(logits[1]), context_BL


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=200)
@given(batches(), st.integers(1, 30), st.integers(1, 3) | st.integers(1, 40))
def test_it_finds_the_best_of_all_pairs_in_their_order(device, batch, max_answer_length, n_best):
    """Breaks if a pair is lost or allowed wrongly, or equal scores come in another order. More spans are requested than
    there are in many of the cases, and longer ones than the window."""
    spans = best_spans(*(tensor.to(device) for tensor in batch), max_answer_length, n_best)
    assert [tuple(tensor.shape) for tensor in spans] == [(len(batch[0]), n_best)] * 4
    assert [tensor.dtype for tensor in spans] == [torch.int32, torch.int32, torch.float32, torch.float32]
    assert found(spans) == expected(*batch, max_answer_length, n_best)


def test_where_fewer_spans_are_valid_the_rest_is_marked():
    context_BL = torch.tensor([[False, True, True, False], [False, False, False, False]])
    zeros_BL = torch.zeros(2, 4)
    first_BK, last_BK, start_logit_BK, end_logit_BK = best_spans(zeros_BL, zeros_BL, context_BL, 30, 4)
    assert first_BK.tolist() == [[1, 1, 2, -1], [-1] * 4]
    assert last_BK.tolist() == [[1, 2, 2, -1], [-1] * 4]
    assert start_logit_BK[0].tolist() == end_logit_BK[0].tolist() == [0, 0, 0, -torch.inf]


def test_the_best_pair_need_not_have_one_of_the_best_starts_or_ends():
    """Breaks with the usual shortcut through the 20 best starts and ends: here all of these are too far apart, and the
    shortcut finds nothing. The 20 best starts come after all of the best ends."""
    start_BL = torch.cat([torch.full((1, 60), 1.0), torch.full((1, 20), 9.0)], dim=1)
    end_BL = torch.cat([torch.full((1, 20), 9.0), torch.full((1, 60), 1.0)], dim=1)
    start_BL[0, 40], end_BL[0, 44] = 8.9, 8.9
    spans = found(best_spans(start_BL, end_BL, torch.ones(1, 80, dtype=torch.bool), 5, 20))[0]
    assert spans[0][1:] == (40, 44)


@pytest.mark.parametrize("longest", range(1, 10))
def test_an_end_one_token_too_far_does_not_count_for_its_start(longest):
    """Breaks if the running maximum reaches too far or not far enough: start 0 is the best, but the end of 9 is just too
    far for it, and the one best span is that of start 1 with this end."""
    start_BL, end_BL = torch.zeros(1, 12), torch.zeros(1, 12)
    start_BL[0, 0], end_BL[0, longest] = 1.0, 9.0
    spans = found(best_spans(start_BL, end_BL, torch.ones(1, 12, dtype=torch.bool), longest, 1))
    assert spans == [[(9.0, 1, longest)]]


def test_a_windows_spans_do_not_depend_on_its_batch_or_its_padding():
    """Breaks if equal scores are ordered by what the sort happens to do, which changes with the shape. All scores are
    equal here, so that the order is all there is."""
    length = 40
    logits_BL, context_BL = torch.zeros(1, length), torch.ones(1, length, dtype=torch.bool)
    alone = torch.stack(best_spans(logits_BL, logits_BL, context_BL, 7, 20)[:2])
    assert alone[:, 0, :3].tolist() == [[0, 0, 0], [0, 1, 2]]
    for left, right, others in ((0, 1, 0), (5, 0, 3), (300, 44, 31)):
        padded_BL = torch.nn.functional.pad(logits_BL, (left, right), value=7.0).repeat(others + 1, 1)
        mask_BL = torch.nn.functional.pad(context_BL, (left, right)).repeat(others + 1, 1)
        padded_BL[:others] = torch.randn(others, left + length + right)
        assert torch.equal(torch.stack(best_spans(padded_BL, padded_BL, mask_BL, 7, 20)[:2])[:, -1:] - left, alone)


def test_scores_are_summed_in_float32_whatever_the_model_computes_in():
    """Breaks if half-precision logits are added in half precision: 256 + 1 is 256 in bfloat16, and the order is lost."""
    start_BL = torch.tensor([[256.0, 256.0]], dtype=torch.bfloat16)
    end_BL = torch.tensor([[0.0, 1.0]], dtype=torch.bfloat16)
    spans = found(best_spans(start_BL, end_BL, torch.ones(1, 2, dtype=torch.bool), 1, 2))
    assert spans == [[(257.0, 1, 1), (256.0, 0, 0)]]


@pytest.mark.parametrize("nan", [float("nan"), -float("nan")])
def test_a_score_that_is_not_a_number_comes_first_and_only_from_the_context(nan):
    """Breaks if a damaged model's nan sank to the end of the list, unseen; in the padding it means nothing."""
    start_BL, end_BL = torch.zeros(1, 6), torch.zeros(1, 6)
    context_BL = torch.tensor([[False, True, True, True, False, False]])
    start_BL[0, 5] = end_BL[0, 4] = nan
    spans = best_spans(start_BL, end_BL, context_BL, 3, 6)
    assert not any(tensor.float().isnan().any() for tensor in spans)
    end_BL[0, 2] = nan
    first_BK, last_BK, _, end_logit_BK = best_spans(start_BL, end_BL, context_BL, 3, 6)
    assert (first_BK[0, :2].tolist(), last_BK[0, :2].tolist()) == ([1, 2], [2, 2])
    assert end_logit_BK[0, :2].isnan().all() and not end_logit_BK[0, 2:].isnan().any()


def test_it_compiles_into_one_graph():
    """Breaks if a value is read back to the host, or the number of spans decides a shape: `fullgraph` refuses both."""
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]  # counts on through the whole session, whatever is reset
    before = graphs["unique_graphs"]
    compiled = torch.compile(best_spans, fullgraph=True, dynamic=False, backend="eager")
    for seed in range(3):
        torch.manual_seed(seed)
        start_BL, end_BL = torch.randn(4, 50), torch.randn(4, 50)
        context_BL = torch.rand(4, 50) < (0.9, 0.5, 0.01)[seed]
        results = (search(start_BL, end_BL, context_BL, 6, 20) for search in (compiled, best_spans))
        assert all(torch.equal(one, other) for one, other in zip(*results))
    assert graphs["unique_graphs"] - before == 1
