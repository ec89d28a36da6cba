"""The fit of error = a n^-b + c, on errors made with known a, b and c, and against scipy's."""

import numpy as np
import pytest

from qa_accel.experiments.power_law import CurveFit, fit_curve, fitted, law

optimize = pytest.importorskip("scipy.optimize", reason="an independent source for the fit")

SIZES = np.array([125, 250, 500, 1000, 2000])
TRUE = np.array([[3.0, 0.5, 0.1]])
PARAGRAPHS = 300


def simulated(seed: int, *, runs: int = 1, truth: np.ndarray = TRUE) -> CurveFit:
    """A curve with noise of validation data (0.01 of the error, shared by the sizes for three quarters of it) and of runs (0.004)."""
    generator = np.random.default_rng(seed)
    context_PS = (
        0.01
        * PARAGRAPHS**0.5
        * (
            generator.normal(size=(PARAGRAPHS, 1)) * 0.75**0.5
            + generator.normal(size=(PARAGRAPHS, len(SIZES))) * 0.25**0.5
        )
    )
    of_runs = [
        [value + 0.004 * generator.normal() for _ in range(runs)]
        for value in law(truth, SIZES)[0] + context_PS.mean(axis=0)
    ]
    error_S = np.mean(of_runs, axis=1)
    drawn_RP = generator.integers(PARAGRAPHS, size=(500, PARAGRAPHS))
    centred_PS = context_PS - context_PS.mean(axis=0)
    resampled_RS = error_S + centred_PS[drawn_RP].mean(axis=1)
    found = fit_curve(SIZES, error_S, resampled_RS, PARAGRAPHS, of_runs)
    assert found is not None
    return found


def covered(count: int, runs: int) -> tuple[float, float]:
    """Of so many simulated curves, the share whose intervals hold the true error at twice the data, and the true gain by it."""
    at_twice, gain = [], []
    now, true = law(TRUE, np.array([2000.0, 4000.0]))[0]
    for seed in range(count):
        found = simulated(seed, runs=runs)
        low, high = found.interval_at(np.array([4000.0]))[0]
        at_twice.append(low <= true <= high)
        low, high = found.gain_interval(2000, 4000)
        gain.append(low <= now - true <= high)
    return float(np.mean(at_twice)), float(np.mean(gain))


def test_errors_without_noise_give_a_b_and_c_back():
    """Breaks if the search for b stops early, or a is that of scaled sizes."""
    for a, b, c in ((3.0, 0.5, 0.1), (0.9, 0.07, 0.0), (200.0, 1.3, 0.02), (1.0, 0.35, 0.3)):
        [[found_a, found_b, found_c]] = fitted(SIZES, law(np.array([[a, b, c]]), SIZES))
        assert found_b == pytest.approx(b, rel=2e-3) and found_c == pytest.approx(c, abs=1e-3)
        assert found_a == pytest.approx(a, rel=2e-2)


def test_the_fit_is_at_least_as_good_as_scipys():
    """The same least squares by an independent minimiser from the true values on. Breaks if bounds on a or c are missed."""
    generator = np.random.default_rng(0)
    for truth in (TRUE, np.array([[0.9, 0.1, 0.0]])):
        for _ in range(10):
            error_S = law(truth, SIZES)[0] + generator.normal(0, 0.01, len(SIZES))
            other = optimize.least_squares(
                lambda laws, error_S=error_S: law(laws[None], SIZES)[0] - error_S,
                truth[0],
                bounds=([0, 0.01, 0], [np.inf, 4, 1]),
            )
            [found] = fitted(SIZES, error_S[None])
            squares = ((law(found[None], SIZES)[0] - error_S) ** 2).sum()
            assert squares <= 2 * other.cost * 1.001 + 1e-12
            assert found[0] >= 0 and found[2] >= 0


def test_an_error_that_does_not_fall_is_a_constant_and_a_poor_fit():
    """Breaks if a rising error gives a negative a, which would promise less error from less data."""
    rising_S = np.array([0.2, 0.22, 0.24, 0.26, 0.28])
    found = fit_curve(SIZES, rising_S, np.repeat(rising_S[None], 50, axis=0), 50)
    assert found is not None and (found.a, found.c) == (0.0, pytest.approx(0.24)) and found.is_poor
    low, high = found.gain_interval(2000, 4000)
    assert low == 0 and high < 0.2


def test_two_sizes_are_no_curve_and_three_have_nothing_left_to_judge_the_fit_by():
    """Breaks if three parameters are fitted to two points."""
    error_S = law(TRUE, SIZES)[0]
    assert fit_curve(SIZES[:2], error_S[:2], np.zeros((50, 2)), 50) is None
    found = fit_curve(SIZES[:3], error_S[:3], np.repeat(error_S[None, :3], 50, axis=0), 50)
    assert found is not None and found.noise.source == "unknown" and found.largest_residual < 1e-4
    assert not found.is_poor and found.at(np.array([1000.0])) == pytest.approx(
        law(TRUE, np.array([1000.0]))[0], abs=0.02
    )


def test_noise_of_runs_is_that_of_seeds_or_what_the_fit_leaves():
    """Two runs a size that differ by 0.02 have a deviation of 0.02 / sqrt 2, their mean 0.01. Breaks if the noise of a mean of two
    runs is that of one."""
    error_S = law(TRUE, SIZES)[0]
    of_runs = [[value - 0.01, value + 0.01] for value in error_S]
    same_RS = np.repeat(error_S[None], 400, axis=0)
    found = fit_curve(SIZES, error_S, same_RS, PARAGRAPHS, of_runs)
    assert found is not None and found.noise.source == "seeds" and found.noise.freedom == 5
    assert found.noise.deviation_S == pytest.approx(np.full(5, 0.01))
    low, high = found.interval_at(np.array([2000.0]))[0]
    assert 0.01 < high - low < 0.08, "there is no other noise than that"
    zigzag_S = error_S + 0.01 * np.array([1, -1, 1, -1, 1])
    found = fit_curve(SIZES, zigzag_S, same_RS, PARAGRAPHS)
    assert found is not None and found.noise.source == "residuals" and found.noise.freedom == 2
    assert 0.005 < found.noise.deviation_S[0] < 0.03


def test_the_interval_at_twice_the_data_holds_the_truth_about_as_often_as_it_says():
    """40 simulated curves, of which 95 % are 38. Breaks if the resamples of sizes are not paired or the runs' noise is left out:
    fewer than 34 have a chance of 1 in 100 at 95 %."""
    at_twice, gain = covered(40, runs=3)
    assert at_twice >= 34 / 40 and gain >= 34 / 40


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 3])
def test_coverage_over_200_curves(runs):
    """Breaks if intervals are too narrow, or so wide that they say nothing."""
    at_twice, gain = covered(200, runs)
    assert 0.9 <= at_twice <= 1.0 and 0.9 <= gain <= 1.0
    found = simulated(0, runs=runs)
    low, high = found.interval_at(np.array([4000.0]))[0]
    assert high - low < (0.08 if runs == 3 else 0.15)
