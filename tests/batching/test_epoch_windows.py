"""Every window with an answer in each epoch, and of the others so many, each in its turn."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qa_accel.batching.epoch_windows import EpochWindows, circle, in_turn


def answers(*rows: int, of: int) -> np.ndarray:
    with_answer_W = np.zeros(of, bool)
    with_answer_W[list(rows)] = True
    return with_answer_W


@given(st.integers(1, 200), st.data(), st.floats(0, 20), st.integers(0, 300), st.integers(0, 2**31 - 1))
def test_an_epoch_has_all_windows_with_an_answer_and_at_most_so_many_others_for_each(W, data, ratio, epoch, seed):
    """Breaks if a window is drawn twice in one epoch, if an answer is left out, or if the others are too many."""
    rows = data.draw(st.sets(st.integers(0, W - 1), min_size=1))
    windows = EpochWindows(answers(*rows, of=W), ratio, seed=seed)
    drawn = windows.of_epoch(epoch)
    assert drawn.dtype == np.int32 and (np.diff(drawn) > 0).all()
    assert rows <= set(drawn.tolist()) <= set(range(W))
    others = len(drawn) - len(rows)
    assert others == windows.without_answer == min(W - len(rows), int(round(ratio * len(rows), 6)))
    assert len(windows) == len(drawn)


@pytest.mark.parametrize(
    ("ratio", "with_answer", "all", "others"),
    [
        (1, 3, 100, 3),
        (0.5, 3, 100, 1),  # one and a half, rounded down
        (0.29, 100, 1000, 29),  # 28.999999999999996 in floating point
        (2.5, 4, 100, 10),
        (0, 3, 100, 0),
        (40, 3, 100, 97),  # more than there are
        (1e300, 3, 100, 97),
        (None, 3, 100, 97),
    ],
)
def test_numbers_worked_out_by_hand(ratio, with_answer, all, others):
    windows = EpochWindows(answers(*range(with_answer), of=all), ratio, seed=0)
    assert (windows.with_answer, windows.without_answer) == (with_answer, others)
    assert len(windows.of_epoch(3)) == with_answer + others


@pytest.mark.parametrize(("W", "ratio"), [(60, 1.0), (61, 3.0), (97, 0.7), (40, 6.0)])
def test_after_any_number_of_epochs_each_window_has_been_in_as_many_as_the_others_give_or_take_one(W, ratio):
    """5 windows hold an answer. Breaks if epochs draw independently: after 11 epochs of 5 out of 55, a third of them would
    not have been seen. Also breaks if the end of a round is left out."""
    windows = EpochWindows(answers(0, 10, 20, 30, 39, of=W), ratio, seed=4)
    seen_W = np.zeros(W, int)
    for epoch in range(40):
        seen_W[windows.of_epoch(epoch)] += 1
        others_W = np.delete(seen_W, [0, 10, 20, 30, 39])
        assert others_W.max() - others_W.min() <= 1
    assert (seen_W[[0, 10, 20, 30, 39]] == 40).all()


def test_the_windows_of_an_epoch_depend_on_seed_and_epoch_alone():
    """Breaks if a draw goes on from the one before it: a resumed run begins in the middle."""
    with_answer_W = answers(2, 50, 77, of=400)
    one, other = (EpochWindows(with_answer_W, 5.0, seed=9) for _ in range(2))
    forward = [one.of_epoch(epoch).tolist() for epoch in range(6)]
    backward = [other.of_epoch(epoch).tolist() for epoch in reversed(range(6))]
    assert forward == backward[::-1]
    assert forward[0] != forward[1]
    assert EpochWindows(with_answer_W, 5.0, seed=10).of_epoch(0).tolist() != forward[0]


def test_a_count_above_the_circle_goes_round_it_several_times():
    """7 of 3 rows: twice each, and one of them once more, the next one in the next epoch."""
    rows = np.array([10, 20, 30])
    order = circle(rows, seed=3)
    assert sorted(order) == [10, 20, 30]
    for epoch in range(6):
        drawn, times = np.unique(in_turn(order, 7, epoch), return_counts=True)
        assert drawn.tolist() == [10, 20, 30] and sorted(times) == [2, 2, 3]
    assert len(np.unique([np.bincount(in_turn(order, 7, epoch)).argmax() for epoch in range(3)])) == 3
    assert in_turn(rows[:0], 0, 5).tolist() == []


def test_a_ratio_without_any_answer_is_refused_by_its_name():
    with pytest.raises(ValueError, match="--negative_window_ratio 2: none of the 40 training windows holds an answer"):
        EpochWindows(np.zeros(40, bool), 2, seed=0)
    assert len(EpochWindows(np.zeros(40, bool), None, seed=0)) == 40


def test_millions_of_windows_take_a_few_bytes_each_and_no_new_order_for_each_epoch():
    """Breaks if windows become Python objects: a list of them takes 30 bytes each."""
    with_answer_W = np.random.default_rng(0).random(2_000_000) < 0.01
    tracemalloc.start()
    windows = EpochWindows(with_answer_W, 1, seed=0)
    assert {len(windows.of_epoch(epoch)) for epoch in range(20)} == {2 * int(with_answer_W.sum())}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / len(with_answer_W) < 30


@pytest.mark.parametrize("ratio", [None, 1.0])
def test_windows_that_are_left_out_are_in_no_epoch(ratio):
    """Windows 0 and 4 hold answers; 2 and 3 are left out. Breaks if they take turns with the others, or if epochs count them."""
    left_out_W = answers(2, 3, of=8)
    windows = EpochWindows(answers(0, 4, of=8), ratio, seed=0, left_out_W=left_out_W)
    epochs = [windows.of_epoch(epoch).tolist() for epoch in range(4)]
    if ratio is None:
        assert epochs == [[0, 1, 4, 5, 6, 7]] * 4
    else:
        assert all(len(rows) == 4 and {0, 4} < set(rows) for rows in epochs)
    assert {row for rows in epochs for row in rows} == {0, 1, 4, 5, 6, 7}
    assert len(windows) == len(epochs[0])


def test_a_run_whose_windows_are_all_left_out_is_refused():
    """Breaks if it ends with a division by zero."""
    with pytest.raises(
        ValueError, match=r"--answers first leaves out all 3 training windows: .* Take --answers any or all"
    ):
        EpochWindows(np.zeros(3, bool), None, seed=0, left_out_W=np.ones(3, bool))
