"""Windows of several sets in an epoch: as often as the weights say, in turn, and the same ones whenever they are computed."""

import numpy as np
import pytest

from qa_accel.batching.epoch_windows import EpochWindows
from qa_accel.batching.set_mixture import SetMixture, quotas

SET_W = np.repeat([0, 1, 2], [100, 10, 5])
ANSWER_W = np.arange(115) % 5 == 0  # 20, 2 and 1 of the sets' windows


def mixture(weights=(1, 1, 1), temperature=1.0, ratio=None, seed=3):
    names = ("a", "b", "c")
    options = dict(temperature=temperature, negative_window_ratio=ratio, seed=seed)
    return SetMixture(names, weights, SET_W, ANSWER_W, **options)


def counts(windows: np.ndarray) -> list[int]:
    return np.bincount(SET_W[windows], minlength=3).tolist()


@pytest.mark.parametrize(
    ("sizes", "weights", "temperature", "expected"),
    [
        ([100, 10], [1, 1], 1, [100, 10]),
        ([100, 10], [1, 3], 1, [100, 30]),
        ([100, 10], [0.25, 1.5], 1, [25, 15]),
        ([100, 25], [1, 1], 2, [83, 42]),  # roots 10 and 5: two thirds and one third of 125
        ([100, 25], [1, 1], 1e9, [63, 62]),  # all but alike: a little over and a little under 62.5
        ([100, 25], [1, 1], 1e-3, [125, 1]),  # the larger one alone, and at least one window of each
        ([100, 25], [1, 4], 2, [67, 133]),  # 10 and 4 x 5: a third and two thirds of 200
    ],
)
def test_quotas_by_hand(sizes, weights, temperature, expected):
    assert quotas(np.array(sizes, float), np.array(weights, float), temperature).tolist() == expected


def test_equal_weights_are_every_window_once():
    """Breaks if names alone, without weights, change what is learnt."""
    assert mixture().of_epoch(7).tolist() == list(range(115))


def test_a_weight_is_how_often_a_window_comes():
    """3.0: each three times. 0.5: half of them, the other half in the next epoch."""
    mixed = mixture(weights=(0.5, 3, 1))
    first, second = mixed.of_epoch(0), mixed.of_epoch(1)
    assert counts(first) == counts(second) == [50, 30, 5] == mixed.quota_S.tolist()
    assert len(mixed) == len(first) == 85
    times = np.bincount(first, minlength=115)
    assert (times[100:110] == 3).all() and (times[110:] == 1).all() and times[:100].max() == 1
    of_a = [set(windows[windows < 100].tolist()) for windows in (first, second)]
    assert of_a[0] | of_a[1] == set(range(100))


def test_windows_without_answer_are_limited_in_each_set_by_the_same_share():
    """Ratio 2: 20 + 40, 2 + 4 and 1 + 2 windows; the weights then count these."""
    mixed = mixture(weights=(1, 2, 1), ratio=2)
    windows = mixed.of_epoch(4)
    assert counts(windows) == [60, 12, 3]
    assert ANSWER_W[windows].sum() == mixed.with_answer == 20 + 4 + 1
    assert mixed.without_answer == 40 + 8 + 2


def test_a_pure_function_of_seed_and_epoch():
    """Breaks if an epoch depends on those that were computed before: a resumed run would learn from other windows."""
    mixed = mixture(weights=(0.3, 1.7, 1))
    late = mixture(weights=(0.3, 1.7, 1)).of_epoch(9).tolist()
    assert [mixed.of_epoch(epoch) for epoch in range(9)] and mixed.of_epoch(9).tolist() == late
    assert mixture(weights=(0.3, 1.7, 1), seed=4).of_epoch(9).tolist() != late


def test_a_set_that_an_epoch_cannot_have_is_refused_by_name():
    with pytest.raises(ValueError, match="the set c has no training window"):
        SetMixture("abc", (1, 1, 1), np.minimum(SET_W, 1), ANSWER_W, temperature=1, negative_window_ratio=None, seed=0)
    without = ANSWER_W & (SET_W != 1)
    with pytest.raises(
        ValueError, match="the set b has no window with an answer, and --negative_window_ratio leaves none"
    ):
        SetMixture("abc", (1, 2, 1), SET_W, without, temperature=1, negative_window_ratio=0.1, seed=0)


def test_the_ratio_is_that_of_all_sets_with_and_without_weights():
    """Breaks if the ratio counts within each set as soon as one has a weight: a set without any answer would be refused, or another
    number of windows be taught because of a weight of 1.0000001. 21 windows with an answer, 21 of 94 others, 10 of these in b: 2."""
    without = ANSWER_W & (SET_W != 1)
    mixed = SetMixture("abc", (1, 1.0000001, 1), SET_W, without, temperature=1, negative_window_ratio=1, seed=0)
    union = EpochWindows(without, 1, seed=0)
    assert counts(mixed.of_epoch(0)) == [38, 2, 2] and len(mixed) == len(union) == 42


def test_a_set_that_is_seen_little_keeps_a_window_with_an_answer():
    mixed = mixture(weights=(1, 0.1, 1), ratio=2)
    assert ANSWER_W[[row for row in mixed.of_epoch(0) if SET_W[row] == 1]].tolist() == [True]
