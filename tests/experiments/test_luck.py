"""How lucky the best trial was: differences and intervals by hand, the expected optimism on sweeps whose truth is known."""

import numpy as np
import pytest

from qa_accel.experiments.luck import Confirmed, expected_optimism, luck, pooled_deviation

pytest.importorskip("scipy", reason="reports need the extra report")


def test_the_difference_and_its_interval_are_those_of_students_t():
    """Re-runs 80, 81, 82: mean 81, deviation 1, t of 2 degrees of freedom 4.303, half 4.303 / sqrt 3 = 2.484. Breaks if the
    interval is a normal one (half 1.13), or the sign is turned."""
    found = Confirmed(7, 83.5, (80.0, 81.0, 82.0))
    assert (found.mean, found.deviation, found.difference) == (81.0, 1.0, 2.5)
    assert found.interval == pytest.approx((2.5 - 2.484, 2.5 + 2.484), abs=1e-3)


def test_two_seeds_give_a_wide_interval_one_gives_none_and_none_gives_nothing():
    """Two re-runs, 80 and 82: t of one degree of freedom is 12.706, half 12.706 * 1.414 / 1.414 = 12.7. Breaks if one re-run is
    given a spread of 0, which would look like certainty."""
    low, high = Confirmed(0, 83.0, (80.0, 82.0)).interval or (0, 0)
    assert (low, high) == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3)
    one = Confirmed(0, 83.0, (80.0,))
    assert (one.mean, one.deviation, one.difference, one.interval) == (80.0, None, 3.0, None)
    none = Confirmed(0, 83.0, ())
    assert (none.mean, none.deviation, none.difference, none.interval) == (None, None, None, None)
    nothing = luck([83.0, 80.0], [none])
    assert nothing.expected is None and nothing.deviation is None and not nothing.pairs and not nothing.confirmed


def test_the_spread_of_seeds_is_pooled_within_trials():
    """(80, 82) and (70, 74, 78): squares 2 and 32 over 1 + 2 degrees of freedom. Breaks if the means' difference counts."""
    assert pooled_deviation([(80.0, 82.0), (70.0, 74.0, 78.0), (60.0,), ()]) == (pytest.approx((34 / 3) ** 0.5), 3)
    assert pooled_deviation([(80.0,), ()]) == (None, 0)


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


def test_a_winner_far_ahead_is_not_lucky_and_of_a_loss_the_lowest_wins():
    """Breaks if the winner is always the highest."""
    assert expected_optimism(np.array([70.0, 71.0, 72.0, 95.0]), 0.5) == pytest.approx(0, abs=0.05)
    losses = [0.5, 0.52, 9.0, 9.1]
    top = [Confirmed(0, 0.5, (0.5, 0.54)), Confirmed(1, 0.52, (0.51, 0.53))]
    lucky = luck(losses, top, higher_is_better=False)
    assert lucky.expected is not None and 0.005 < lucky.expected < 0.03, "two are near each other at the low end"
    [(one, other, difference)] = lucky.pairs
    assert (one, other) == (0, 1) and difference is not None and difference.difference == pytest.approx(0.0)


def test_one_trial_and_trials_that_are_all_alike_are_no_error():
    assert expected_optimism(np.array([80.0]), 1.0) == 0
    assert luck([80.0], [Confirmed(0, 80.0, (80.0, 80.0))]).expected == 0
    assert expected_optimism(np.full(2000, 1.0), 1.0) > 3, "thousands of trials in bounded memory"
