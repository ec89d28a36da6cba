"""Which parameters matter, on made-up functions whose answer is known."""

import numpy as np
import pytest

from qa_accel.experiments.importance import Importance, epsilon_squared, groups_of, importances, ranks

stats = pytest.importorskip("scipy.stats", reason="an independent source for the figures")


def trials(count: int, seed: int = 0) -> list[dict]:
    generator = np.random.default_rng(seed)
    return [
        {
            "learning_rate": float(10 ** generator.uniform(-5, -2)),
            "weight_decay": float(generator.uniform(0, 0.1)),
            "epochs": int(generator.integers(1, 4)),
            "optimizer": str(generator.choice(["adamw", "lamb"])),
        }
        for _ in range(count)
    ]


def by_name(found: list[Importance]) -> dict[str, Importance]:
    return {each.parameter: each for each in found}


def test_the_share_is_what_scipys_kruskal_gives():
    """Breaks if the share is not corrected for the number of groups, or ranks of ties are wrong. H of Kruskal and Wallis is
    (n - 1) times the uncorrected share of the ranks' variance."""
    generator = np.random.default_rng(1)
    values = generator.integers(0, 12, 60).astype(float)  # with ties
    group_T = generator.integers(0, 4, 60)
    values += 3 * group_T
    h = stats.kruskal(*(values[group_T == group] for group in range(4))).statistic
    expected = 1 - (1 - h / 59) * 59 / 56
    assert 0.1 < expected < 0.9
    assert epsilon_squared(ranks(values), group_T) == pytest.approx(expected)
    assert ranks(values) == pytest.approx(stats.rankdata(values))


def test_one_parameter_that_decides_alone_has_nearly_all_and_the_others_nothing():
    """Breaks if a peak within the range is missed, as by a correlation, or if noise counts as importance."""
    params = trials(60)
    values = [
        80 - 5 * (np.log10(each["learning_rate"]) + 3.5) ** 2 for each in params
    ]  # best in the middle of the range
    found = importances(params, values)
    assert found[0].parameter == "learning_rate" and found[0].share > 0.7 and found[0].p_value < 0.01
    assert all(each.share < 0.1 and not each.beyond_chance for each in found[1:]) and len(found) == 4


def test_of_two_parameters_the_one_with_the_larger_effect_has_the_larger_share():
    """A choice that is worth 3 points and an integer that is worth 1 a step: of values 3 c + e, c from (0, 1), e from (1, 2, 3),
    variances are 2.25 and 0.67, so 0.77 and 0.23 of the whole. Breaks if shares do not follow the variance."""
    params = trials(2000)
    values = [70 + 3 * (each["optimizer"] == "adamw") + each["epochs"] for each in params]
    found = by_name(importances(params, values))
    assert found["optimizer"].share == pytest.approx(0.77, abs=0.04)
    assert found["epochs"].share == pytest.approx(0.23, abs=0.04)
    assert found["learning_rate"].share < 0.01 and found["weight_decay"].share < 0.01


def test_values_that_are_only_noise_seldom_give_a_claim():
    """Breaks if the p-value is not corrected for four parameters, or not of a fair test: at 0.05, of 200 sweeps of 20 trials
    about 10 make a claim; more than 20 have a chance of 0.001."""
    claims = 0
    for seed in range(200):
        params = trials(20, seed)
        values = np.random.default_rng(1000 + seed).normal(80, 1, 20).tolist()
        claims += any(each.beyond_chance for each in importances(params, values))
    assert claims <= 20


def test_too_few_trials_or_a_parameter_that_never_varies_give_nothing():
    """Breaks if importance is claimed of nine trials, or a constant is divided by zero."""
    params = trials(9)
    assert importances(params, list(range(9))) == []
    params = [{"constant": 1, "own": str(number), "half": number % 2} for number in range(12)]
    assert [each.parameter for each in importances(params, list(range(12)))] == ["half"]
    assert importances(params, [80.0] * 12) == [], "no variance, nothing to explain"


def test_groups_are_choices_or_quantiles():
    """Breaks if a switch and a number become one group, or a number with few values is cut in the middle of one."""
    assert groups_of([True, "True", True, "True"]).tolist() == [0, 1, 0, 1]
    assert groups_of([1e-5, 2e-5, 4e-5, 1e-4, 1e-3, 1e-2]).tolist() == [0, 0, 1, 1, 2, 2]
    assert groups_of([16, 32, 16, 32, 32]).tolist() == [0, 1, 0, 1, 1]
    assert groups_of([5, 5, 5]) is None and groups_of(["a", "b", "c"]) is None
