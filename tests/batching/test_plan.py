"""Every window once, on any number of ranks; packed batches of equal weight, padded batches of similar lengths."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qa_accel.batching.plan import (
    NOTHING,
    batch_tokens,
    evaluation_plan,
    packed_evaluation_plan,
    rank_batches,
    row_tokens,
    training_plan,
)


def like_squad(windows: int, seed: int = 0) -> np.ndarray:
    """Lengths as SQuAD v2's at 384/128: mean about 170, a long tail, one or two in a hundred cut off at 384."""
    return np.clip(np.random.default_rng(seed).lognormal(5.05, 0.42, windows), 24, 384).astype(np.int32)


@st.composite
def lengths(draw) -> np.ndarray:
    """None, one or many windows: equal, even, skewed, or all short but one, ten times longer than the average."""
    windows = draw(st.one_of(st.integers(0, 3), st.integers(0, 600)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["equal", "even", "skewed", "one giant"]))
    lengths_W = {
        "equal": np.full(windows, 100),
        "even": rng.integers(1, 385, windows),
        "skewed": 1 + rng.pareto(1.0, windows).clip(max=5_000),
        "one giant": rng.integers(20, 60, windows),
    }[kind].astype(np.int32)
    if kind == "one giant" and windows > 0:
        lengths_W[rng.integers(windows)] = 400
    return lengths_W


layouts = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "epoch": st.integers(0, 9),
        "batch_size": st.integers(1, 17),
        "accumulation": st.integers(1, 4),
        "world_size": st.integers(1, 64),
        "packed": st.booleans(),
    }
)
ONE_PROCESS = {"seed": 0, "epoch": 0, "batch_size": 32, "accumulation": 1, "world_size": 1}


@given(lengths(), layouts)
@example(np.array([7], np.int32), {**ONE_PROCESS, "world_size": 64, "packed": True})
@example(np.array([7], np.int32), {**ONE_PROCESS, "world_size": 64, "packed": False})
def test_every_window_is_planned_once_whatever_the_ranks(lengths_W, layout):
    # Breaks if the last, uneven step is cut off, or filled up with windows that were planned already (as samplers do).
    plan = training_plan(lengths_W, **layout)
    assert plan.dtype == np.int32
    assert plan.shape[1:3] == (layout["accumulation"], layout["world_size"])
    batches_per_step = layout["accumulation"] * layout["world_size"]
    assert plan.shape[3] == max(1, min(layout["batch_size"], -(-len(lengths_W) // batches_per_step)))
    assert np.array_equal(np.sort(plan[plan != NOTHING]), np.arange(len(lengths_W)))


@given(lengths(), layouts)
def test_only_the_last_step_is_uneven_and_by_one_window_at_most(lengths_W, layout):
    # Breaks if a rank idles while another has a whole batch, or if there is a step that no rank has windows for.
    plan = training_plan(lengths_W, **layout)
    assert not (plan[:-1] == NOTHING).any()
    if len(plan) > 0:
        windows_per_batch = (plan[-1] != NOTHING).sum(axis=-1)
        assert windows_per_batch.max() > 0
        assert windows_per_batch.max() - windows_per_batch.min() <= 1
        fill = plan[-1] == NOTHING
        assert (fill[..., 1:] >= fill[..., :-1]).all(), "fill comes after the windows"


@given(lengths(), layouts)
def test_plans_are_pure(lengths_W, layout):
    # Breaks if the plan draws from a global generator, or writes into the lengths: ranks would disagree.
    before = lengths_W.copy()
    first = training_plan(lengths_W, **layout)
    np.random.random()
    assert np.array_equal(first, training_plan(lengths_W, **layout))
    assert np.array_equal(lengths_W, before)


@pytest.mark.parametrize("packed", [True, False])
def test_epochs_and_seeds_differ_in_order_and_in_neighbours(packed):
    # Breaks if the epoch is forgotten, or if equal lengths always meet in the same batch.
    lengths_W = like_squad(20_000)

    def neighbours(**changed) -> set[tuple[int, int]]:
        plan = training_plan(lengths_W, **{**ONE_PROCESS, "packed": packed, **changed})
        return {(int(a), int(b)) for batch in plan[:, 0, 0] for a, b in zip(np.sort(batch)[:-1], np.sort(batch)[1:])}

    first = neighbours()
    for other in (neighbours(epoch=1), neighbours(seed=1)):
        assert len(first & other) < 0.1 * len(first)


@given(lengths(), st.integers(1, 9), st.booleans(), st.sampled_from([(1, 8), (2, 4), (4, 2), (8, 1)]))
def test_ranks_and_accumulation_may_be_exchanged(lengths_W, batch_size, packed, layout):
    # Two ranks with no accumulation see in each step what one rank with two batches sees: the same training.
    settings_ = {"seed": 3, "epoch": 1, "batch_size": batch_size, "packed": packed}
    alone = training_plan(lengths_W, accumulation=8, world_size=1, **settings_)
    spread = training_plan(lengths_W, accumulation=layout[0], world_size=layout[1], **settings_)
    assert np.array_equal(alone.reshape(-1, 8, alone.shape[-1]), spread.reshape(-1, 8, alone.shape[-1]))


def widest_group(lengths_in_full_batches: np.ndarray, batch_size: int) -> int:
    """The bound of training_plan's docstring: longest less shortest, in the widest of batch_size groups by length."""
    groups = np.sort(lengths_in_full_batches.ravel()).reshape(batch_size, -1)
    return int((groups[:, -1] - groups[:, 0]).max())


@given(lengths(), layouts)
def test_tokens_of_packed_batches_differ_by_no_more_than_the_bound(lengths_W, layout):
    # Breaks if windows are dealt out without a look at what the batches hold (the sums would drift apart).
    plan = training_plan(lengths_W, **{**layout, "packed": True})
    full = plan[: len(lengths_W) // (layout["batch_size"] * layout["accumulation"] * layout["world_size"])]
    if len(full) > 0:
        tokens = batch_tokens(lengths_W, full)
        bound = widest_group(lengths_W[full], layout["batch_size"])
        assert bound <= lengths_W.max() - lengths_W.min()
        assert tokens.max() - tokens.min() <= bound


def test_the_bound_is_reached():
    # One window of 100 tokens, seven of 10, two to a batch: no dealing brings the sums closer than 110 and 20.
    lengths_W = np.array([100, 10, 10, 10, 10, 10, 10, 10])
    plan = training_plan(lengths_W, **{**ONE_PROCESS, "batch_size": 2}, packed=True)
    assert sorted(batch_tokens(lengths_W, plan).ravel()) == [20, 20, 20, 110]
    assert widest_group(lengths_W, 2) == 90


def spread(tokens: np.ndarray) -> float:
    return (tokens.max() - tokens.min()) / tokens.mean()


@pytest.mark.parametrize("batch_size", [8, 16, 32, 128])
@pytest.mark.parametrize("world_size", [1, 3, 64])
def test_packed_batches_are_within_2_percent_for_lengths_like_squads(batch_size, world_size):
    lengths_W = like_squad(40_000)
    plan = training_plan(lengths_W, **{**ONE_PROCESS, "batch_size": batch_size, "world_size": world_size}, packed=True)
    full = plan[: 40_000 // plan[0].size]
    assert len(full) > 3
    assert spread(batch_tokens(lengths_W, full)) < 0.02
    in_order_of_chance = np.arange(full.size).reshape(full.shape)
    assert spread(batch_tokens(lengths_W, in_order_of_chance)) > 0.1, "else the data would be no test"


def test_the_last_step_needs_no_longer_row():
    # 31 windows are left for the last batch. Drawn by chance they would have more tokens than 32 balanced ones in one
    # epoch of three, and every row of the run would be up to a tenth longer for it.
    lengths_W = like_squad(32 * 60 + 31)
    for epoch in range(30):
        *full, last = batch_tokens(lengths_W, training_plan(lengths_W, **{**ONE_PROCESS, "epoch": epoch}, packed=True))
        assert last <= max(full)


def test_each_window_is_as_likely_to_be_left_for_the_last_step():
    # 8 of 40 in each of 1,000 epochs: 200 times each, give or take 5 standard deviations of 13.
    lengths_W = like_squad(40)
    left = np.zeros(40, int)
    for epoch in range(1_000):
        plan = training_plan(lengths_W, **{**ONE_PROCESS, "epoch": epoch}, packed=True)
        left[plan[-1][plan[-1] != NOTHING]] += 1
    assert left.sum() == 8 * 1_000
    assert left.min() > 135 and left.max() < 265


def test_packed_batches_are_within_2_percent_on_squad_itself(shared):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(shared / "models" / "minilm" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(384, stride=128, strategy="only_second")
    articles = json.loads((shared / "data" / "squad_v2" / "dev.json").read_text())["data"]
    pairs = [(qa["question"], p["context"]) for a in articles for p in a["paragraphs"] for qa in p["qas"]]
    encodings = tokenizer.encode_batch(pairs)
    lengths_W = np.array([len(window) for first in encodings for window in (first, *first.overflowing)])
    assert len(lengths_W) > 6_000 and lengths_W.min() < 64 and lengths_W.max() == 384
    plan = training_plan(lengths_W, **ONE_PROCESS, packed=True)
    assert spread(batch_tokens(lengths_W, plan[:-1])) < 0.02


def test_packed_batches_mix_all_lengths_and_come_in_no_order_of_length():
    # Breaks if batches leave in the order they were dealt in, or the windows in them from long to short.
    lengths_W = like_squad(64_000)
    batches = training_plan(lengths_W, **ONE_PROCESS, packed=True)[:, 0, 0]
    length_EB = lengths_W[batches]
    quarter = np.searchsorted(np.quantile(lengths_W, [0.25, 0.5, 0.75]), length_EB)
    for q in range(4):
        assert ((quarter == q).sum(axis=1) >= 4).all(), "each quarter of the lengths is in each batch of 32"
    number = np.arange(len(batches))
    assert abs(np.corrcoef(number, length_EB.max(axis=1))[0, 1]) < 0.1
    assert abs(np.corrcoef(number, length_EB.std(axis=1))[0, 1]) < 0.1
    place = np.broadcast_to(np.arange(32), length_EB.shape)
    assert abs(np.corrcoef(place.ravel(), length_EB.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("accumulation", "world_size"), [(1, 1), (1, 8), (4, 2)])
def test_padded_batches_hold_similar_lengths_and_no_rank_waits(accumulation, world_size):
    # Breaks if windows are cut into batches before they are sorted; then half of what is computed is padding.
    lengths_W = like_squad(64_000)
    layout = {**ONE_PROCESS, "accumulation": accumulation, "world_size": world_size}
    length = lengths_W[training_plan(lengths_W, **layout, packed=False)[:-1]]
    longest = length.max(axis=-1)
    assert length.sum() / (longest.sum() * 32) > 0.97
    assert longest.mean() / longest.max(axis=2).mean() > 0.9  # a moment lasts as long as its longest row on any rank
    per_step = length.mean(axis=(1, 2, 3))
    assert abs(np.corrcoef(per_step[:-1], per_step[1:])[0, 1]) < 0.2, "steps come in no order of length"


@given(lengths(), layouts, st.integers(1, 64), st.data())
def test_the_rest_of_an_epoch_can_be_planned_for_other_ranks(lengths_W, layout, world_size, data):
    # Breaks if remaining windows are taken for places in the first plan, or windows that are done come again.
    plan = training_plan(lengths_W, **layout)
    done, rest = np.split(plan, [data.draw(st.integers(0, len(plan)))])
    remaining_W = rest[rest != NOTHING]
    resumed = training_plan(lengths_W, **{**layout, "world_size": world_size}, rows=remaining_W)
    seen = np.concatenate([done[done != NOTHING], resumed[resumed != NOTHING]])
    assert np.array_equal(np.sort(seen), np.arange(len(lengths_W)))
    backwards = training_plan(lengths_W, **{**layout, "world_size": world_size}, rows=remaining_W[::-1])
    assert np.array_equal(resumed, backwards)


@given(lengths(), layouts, st.integers(1, 64), st.integers(0, 700), st.data())
@settings(max_examples=60)
def test_windows_that_come_several_times_are_planned_as_often_and_are_left_as_often(
    lengths_W, layout, world_size, size, data
):
    """An epoch of `size` windows drawn with repeats, more of them or fewer than there are. Breaks if repeats are taken for
    one window, or if the batches are as wide as the data in place of the epoch."""
    rows = np.random.default_rng(size).integers(0, max(1, len(lengths_W)), size if len(lengths_W) else 0)
    plan = training_plan(lengths_W, **layout, rows=rows, epoch_size=len(rows))
    batches_per_step = layout["accumulation"] * layout["world_size"]
    assert plan.shape[3] == max(1, min(layout["batch_size"], -(-len(rows) // batches_per_step)))
    assert np.array_equal(np.sort(plan[plan != NOTHING]), np.sort(rows))
    done, rest = np.split(plan, [data.draw(st.integers(0, len(plan)))])
    layout = {**layout, "world_size": world_size}
    resumed = training_plan(lengths_W, **layout, rows=rest[rest != NOTHING], epoch_size=len(rows))
    seen = np.concatenate([done[done != NOTHING], resumed[resumed != NOTHING]])
    assert np.array_equal(np.sort(seen), np.sort(rows))


def test_a_rank_runs_its_own_batches_step_by_step():
    # 2 steps, 2 batches each, 2 ranks, 1 window: rank 1's are those at [step, batch, 1].
    plan = np.arange(8, dtype=np.int32).reshape(2, 2, 2, 1)
    assert rank_batches(plan, 1).tolist() == [[1], [3], [5], [7]]


def test_the_row_holds_the_fullest_batch_of_all_epochs():
    # 130 tokens in the second plan's first batch, rounded up; NOTHING counts nothing.
    lengths_W = np.array([100, 30, 40])
    plans = [np.array([[[[0, NOTHING]]], [[[1, 2]]]]), np.array([[[[0, 1]]], [[[2, NOTHING]]]])]
    assert batch_tokens(lengths_W, plans[1]).ravel().tolist() == [130, 40]
    assert row_tokens(lengths_W, iter(plans), multiple=64) == 192
    assert row_tokens(lengths_W, plans[:1], multiple=100) == 100
    assert row_tokens(lengths_W, []) == 128


@given(lengths(), st.integers(1, 40))
def test_evaluation_goes_from_long_to_short_and_fills_the_last_batch_alone(lengths_W, batch_size):
    # Breaks if fill comes before a window, or equal lengths change places: batches, and so the last bits, would differ.
    flat = evaluation_plan(lengths_W, batch_size).ravel()
    order, fill = flat[: len(lengths_W)], flat[len(lengths_W) :]
    assert len(fill) < batch_size and (fill == NOTHING).all()
    assert order.tolist() == sorted(range(len(lengths_W)), key=lambda w: (-lengths_W[w], w))


@given(lengths(), st.integers(1, 40))
def test_packed_evaluation_batches_are_balanced_in_windows_and_tokens(lengths_W, batch_size):
    # Breaks if the windows that do not go round are left out, or all put into one batch.
    plan = packed_evaluation_plan(lengths_W, batch_size)
    assert plan.shape[1] == max(1, min(batch_size, len(lengths_W)))
    assert np.array_equal(np.sort(plan[plan != NOTHING]), np.arange(len(lengths_W)))
    if len(plan) > 0:
        windows_per_batch = (plan != NOTHING).sum(axis=1)
        assert windows_per_batch.max() - windows_per_batch.min() <= 1
        tokens = batch_tokens(lengths_W, plan)
        assert tokens.max() - tokens.min() <= lengths_W.max()


def test_packed_evaluation_batches_are_within_2_percent_for_lengths_like_squads():
    lengths_W = like_squad(12_800)
    assert spread(batch_tokens(lengths_W, packed_evaluation_plan(lengths_W, 128))) < 0.02


@pytest.mark.parametrize("packed", [True, False])
def test_planning_takes_a_few_bytes_per_window(packed):
    # Breaks if windows become Python objects on the way: a list of integers alone takes over 30 bytes for each.
    lengths_W = like_squad(1_000_000)
    tracemalloc.start()
    training_plan(lengths_W, **{**ONE_PROCESS, "world_size": 8}, packed=packed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / len(lengths_W) < 40


@pytest.mark.parametrize("packed", [True, False])
def test_a_batch_size_of_a_billion_is_planned_like_one_that_the_data_just_fill(packed):
    """100 windows on 2 ranks are 50 each. Breaks if a plan takes memory for windows that there are not: 16 GB here."""
    lengths_W = like_squad(100)
    settings_ = {**ONE_PROCESS, "world_size": 2, "packed": packed}
    tracemalloc.start()
    plan = training_plan(lengths_W, **{**settings_, "batch_size": 10**9})
    tests = [make(lengths_W, 10**9) for make in (evaluation_plan, packed_evaluation_plan)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    assert plan.shape == (1, 1, 2, 50) and [test.shape for test in tests] == [(1, 100), (1, 100)]
    for one in (plan, *tests):
        assert sorted(one.ravel()) == list(range(100))


def test_the_rest_of_an_epoch_is_planned_as_wide_as_the_epoch():
    """A captured CUDA graph needs one shape: 20 windows in steps of 8 are rows of 8, and so are the last 3 of them."""
    lengths_W = like_squad(20)
    rest = training_plan(lengths_W, **{**ONE_PROCESS, "batch_size": 8}, packed=True, rows=np.array([1, 5, 9]))
    assert rest.shape == (1, 1, 1, 8)


@pytest.mark.parametrize("name", ["batch_size", "accumulation", "world_size"])
def test_sizes_below_one_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        training_plan(np.array([1]), **{**ONE_PROCESS, name: 0}, packed=True)
