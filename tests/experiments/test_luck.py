"""How lucky the best trial was: differences and intervals by hand, the expected optimism on sweeps whose truth is known."""

import numpy as np
import pytest

from qa_accel.experiments.luck import Confirmed, expectation, expected_optimism, luck

pytest.importorskip("scipy", reason="reports need the extra report")


def test_the_interval_holds_the_luck_of_the_value_and_that_of_the_reruns():
    """Re-runs 80, 81, 82 and 70, 72, 74: squares 2 and 8 over 4 degrees of freedom, s = 1.5811, t = 2.776. Half of three re-runs:
    2.776 * 1.5811 * sqrt(4/3) = 5.069. Breaks if the value's own seed is left out (half 2.53), if each trial has its own
    spread (half 4.97 of the first), or the sign is turned."""
    first, other = Confirmed(7, 83.5, (80.0, 81.0, 82.0)), Confirmed(8, 83.0, (70.0, 72.0, 74.0))
    assert (first.mean, first.deviation, first.difference) == (81.0, 1.0, 2.5)
    found = luck([83.5, 83.0], [first, other])
    assert found.interval(first) == pytest.approx((2.5 - 5.069, 2.5 + 5.069), abs=1e-3)
    assert found.interval(other) == pytest.approx((11 - 5.069, 11 + 5.069), abs=1e-3)


@pytest.mark.parametrize("reruns", [2, 10])
def test_a_value_with_ordinary_luck_is_called_more_than_that_in_5_of_100_sweeps(reruns):
    """1,000 values, not chosen, of recipes with re-runs of the same noise: 50 on average, of which the standard deviation is 7.
    Breaks if the value's own seed is left out: 49 % of 10 re-runs of one trial would be called more than luck."""
    generator, beyond = np.random.default_rng(0), 0
    for _ in range(1000):
        rows = generator.normal(80, 0.7, (3, 1 + reruns))
        top = [Confirmed(number, row[0], tuple(row[1:])) for number, row in enumerate(rows)]
        low, high = luck([80.0], top).interval(top[0]) or (0, 0)
        beyond += low > 0 or high < 0
    assert 30 <= beyond <= 75


def test_two_seeds_give_a_wide_interval_one_gives_none_and_none_gives_nothing():
    """Two re-runs, 80 and 82: t of one degree of freedom is 12.706, half 12.706 * 1.414 * sqrt(3/2) = 22.01. Breaks if one re-run,
    or two that score the same, are given a spread of 0, which would look like certainty."""
    two = Confirmed(0, 83.0, (80.0, 82.0))
    assert luck([83.0], [two]).interval(two) == pytest.approx((2 - 22.008, 2 + 22.008), abs=1e-2)
    one = Confirmed(0, 83.0, (80.0,))
    assert (one.mean, one.deviation, one.difference, luck([83.0], [one]).interval(one)) == (80.0, None, 3.0, None)
    alike = Confirmed(0, 83.0, (80.1, 80.1))
    assert luck([83.0], [alike]).interval(alike) is None and expectation([alike]) is None
    none = Confirmed(0, 83.0, ())
    assert (none.mean, none.deviation, none.difference) == (None, None, None)
    nothing = luck([83.0, 80.0], [none])
    assert nothing.expected is None and nothing.deviation is None and not nothing.pairs and not nothing.confirmed
    assert nothing.interval(none) is None and expectation([none]) is None and expectation([one, none]) is None


def test_the_best_of_three_equal_means_is_lucky_too():
    """Means of 80 each, two re-runs each of deviation 1.414: the best of three normal numbers is 0.846 on average, so that the mean
    of 80 is too good by 0.846 * 1.414 / sqrt 2. Breaks if the noise is that of one run, or if nothing is subtracted."""
    found = expectation([Confirmed(number, 85.0, (79.0, 81.0)) for number in range(3)])
    assert found is not None and found.mean == 80 and found.error == pytest.approx(1) and found.freedom == 3
    assert found.optimism == pytest.approx(0.846, abs=0.05) and found.value == 80 - found.optimism
    assert found.interval == pytest.approx((found.value - 3.182, found.value + 3.182), abs=1e-3)
    [alone] = [expectation([Confirmed(0, 85.0, (79.0, 81.0)), Confirmed(1, 84.0, ())])]
    assert alone is not None and (alone.value, alone.optimism) == (80, 0), "one mean is not chosen among several"


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_what_to_expect_is_the_recipes_own_mean_on_average(spread, monkeypatch):
    """300 times three recipes whose means differ by so much, five re-runs each with noise of 1, so that a mean has 0.45. Breaks if
    the best mean itself is expected (too good by 0.38 where all are equal), if recipes that differ are all treated as equal (too bad
    by 0.3 where they are far apart), or if the interval misses the truth in more than 10 %."""
    monkeypatch.setattr("qa_accel.experiments.luck.SIMULATIONS", 400)
    generator, errors, held = np.random.default_rng(1), [], 0
    for _ in range(300):
        true_3 = generator.normal(80, spread, 3) if spread else np.full(3, 80.0)
        top = [Confirmed(n, 85.0, tuple(generator.normal(true, 1, 5))) for n, true in enumerate(true_3)]
        found = expectation(top)
        assert found is not None
        errors.append(found.value - true_3[found.trial])
        held += found.interval[0] < true_3[found.trial] < found.interval[1]
    assert abs(np.mean(errors)) < 0.15 and held >= 270


def test_the_best_of_64_equal_recipes_is_lucky_by_the_largest_of_64_normal_numbers():
    """The mean of the largest of 64 standard normal numbers is 2.38 (David and Nagaraja, Order statistics). Breaks if observed
    values are taken for the recipes' own: then the noise of the winner would be 1 / sqrt 2 of it."""
    found = [expected_optimism(np.random.default_rng(seed).normal(80, 0.5, 64), 0.5) for seed in range(20)]
    assert np.mean(found) == pytest.approx(0.5 * 2.38, rel=0.12)
    result = luck(np.full(64, 80.0), [Confirmed(0, 80.0, (79.5, 80.5))])
    assert result.most == pytest.approx(result.deviation * 2.38, rel=0.05)  # type: ignore[operator]


def test_the_expected_optimism_is_the_true_one_on_average():
    """200 sweeps of 30 recipes with means from N(75, 2) and seeds' noise N(0, 1), whose winners' noise is known. Breaks if it is
    taken for that of equal recipes, which would be twice as much."""
    true, expected = [], []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        noise_T = generator.normal(0, 1, 30)
        value_T = generator.normal(75, 2, 30) + noise_T
        true.append(noise_T[value_T.argmax()])
        expected.append(expected_optimism(value_T, 1.0))
    assert np.mean(true) == pytest.approx(0.9, abs=0.25)
    assert np.mean(expected) == pytest.approx(np.mean(true), abs=0.2)


def test_a_winner_far_ahead_is_not_lucky():
    """Breaks if every winner is taken for one of many equals."""
    assert expected_optimism(np.array([70.0, 71.0, 72.0, 95.0]), 0.5) == pytest.approx(0, abs=0.05)
    [(one, other, difference)] = luck([80.0, 79.0], [Confirmed(0, 80, (79, 81)), Confirmed(1, 79, (78, 82))]).pairs
    assert (one, other) == (0, 1) and difference is not None and difference.difference == pytest.approx(0.0)


def test_one_trial_and_trials_that_are_all_alike_are_no_error():
    assert expected_optimism(np.array([80.0]), 1.0) == 0
    assert luck([80.0], [Confirmed(0, 80.0, (80.0, 80.0))]).expected == 0
    assert expected_optimism(np.full(2000, 1.0), 1.0) > 3, "thousands of trials in bounded memory"
