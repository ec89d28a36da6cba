"""Tests of chance against scipy, published worked examples, permutations, and simulated data in which nothing differs."""

import numpy as np
import pytest
from scipy import stats

from qa_accel.evaluation.significance import holm, pooled_deviation, seed_difference, sign_test, slice_p_value

LEVEL = 0.05


def own_paragraphs(in_slice: tuple[int, int], rest: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Questions on a paragraph each: (wrong, right) of a slice and of the rest."""
    in_Q = np.repeat([True, False], [sum(in_slice), sum(rest)])
    wrong_Q = np.repeat([True, False, True, False], [*in_slice, *rest])
    return in_Q, wrong_Q, np.arange(len(in_Q))


@pytest.mark.parametrize("counts", [((12, 0), (0, 15)), ((0, 15), (12, 0)), ((10, 0), (0, 1000))])
def test_where_each_side_is_right_or_wrong_throughout_fishers_exact_test_decides(counts):
    """No variance is left for a t-test. Breaks if a variance of 0 gives NaN, 0 or 1."""
    assert slice_p_value(*own_paragraphs(*counts)) == pytest.approx(stats.fisher_exact(counts).pvalue, rel=1e-9)


@pytest.mark.parametrize("counts", [((9, 1), (60, 60)), ((3, 17), (200, 100)), ((30, 30), (40, 80)), ((1, 9), (5, 5))])
def test_of_questions_on_paragraphs_of_their_own_it_is_at_least_fishers(counts):
    """Independent questions: the design effect is 1. Breaks if Fisher's test is left out, or is far from the t-test's, which is
    Welch's here: its unbiased variances and their p-value are scipy's but for the degrees of freedom."""
    fisher = stats.fisher_exact(counts).pvalue
    found = slice_p_value(*own_paragraphs(*counts))
    one, other = (np.repeat([1.0, 0.0], side) for side in counts)
    welch = stats.ttest_ind(one, other, equal_var=False)
    freedom = min(len(one), len(other)) - 1
    assert found == pytest.approx(max(fisher, 2 * stats.t.sf(abs(welch.statistic), freedom)), rel=1e-9)


def test_a_slice_below_ten_questions_is_not_tested():
    """Nor one whose rest is. Breaks if nine questions can make a claim."""
    assert np.isnan(slice_p_value(*own_paragraphs((9, 0), (0, 100))))
    assert np.isnan(slice_p_value(*own_paragraphs((0, 100), (9, 0))))
    assert np.isnan(slice_p_value(*own_paragraphs((0, 0), (5, 5))))
    assert slice_p_value(*own_paragraphs((10, 0), (0, 100))) < 1e-9


def test_a_slice_of_one_paragraph_is_never_beyond_chance():
    """Twelve wrong answers on one page may be the page's fault. Breaks if its questions count as independent."""
    paragraph_Q = np.append(np.zeros(12, int), np.arange(1, 101))
    assert slice_p_value(paragraph_Q == 0, paragraph_Q == 0, paragraph_Q) == 1.0


def test_all_right_and_all_wrong_differ_nowhere():
    in_Q, _, paragraph_Q = own_paragraphs((15, 15), (20, 20))
    assert slice_p_value(in_Q, np.zeros(70, bool), paragraph_Q // 3) == 1.0
    assert slice_p_value(in_Q, np.ones(70, bool), paragraph_Q // 3) == 1.0


def test_both_sides_of_a_split_have_the_same_p_value():
    """Breaks if the rest is treated otherwise than the slice."""
    generator = np.random.default_rng(0)
    in_Q, wrong_Q, paragraph_Q = generator.random(300) < 0.3, generator.random(300) < 0.4, np.arange(300) // 4
    assert slice_p_value(in_Q, wrong_Q, paragraph_Q) == pytest.approx(slice_p_value(~in_Q, wrong_Q, paragraph_Q))


def test_paragraphs_answered_as_one_count_as_one_question():
    """Each of 80 questions five times, on its paragraph: no more is known than of the 80. Breaks if copies add certainty: Fisher's
    test of the 400 gives less than a thousandth of that of the 80."""
    in_Q, wrong_Q, paragraph_Q = own_paragraphs((14, 6), (18, 42))
    once = slice_p_value(in_Q, wrong_Q, paragraph_Q)
    five_times = slice_p_value(*(np.repeat(each, 5) for each in (in_Q, wrong_Q, paragraph_Q)))
    assert five_times == pytest.approx(once, rel=1e-6)
    assert stats.fisher_exact([[70, 30], [90, 210]]).pvalue < once / 1000


def simulated(generator: np.random.Generator, paragraphs: int, likeness: float, rate: float) -> tuple:
    """Five questions a paragraph, wrong with the paragraph's own rate; the intraclass correlation is `likeness`."""
    paragraph_Q = np.repeat(np.arange(paragraphs), 5)
    of_both = 1 / likeness - 1
    rate_P = generator.beta(rate * of_both, (1 - rate) * of_both, size=paragraphs)
    return generator.random(len(paragraph_Q)) < rate_P[paragraph_Q], paragraph_Q


@pytest.mark.parametrize("seed", range(4))
def test_the_p_value_is_near_that_of_a_permutation_of_whole_paragraphs(seed):
    """Which 30 of 120 paragraphs are the slice is drawn again 3,000 times. Breaks if the variance of paragraphs is wrong by a
    factor: Fisher's p-values are up to a thousand times smaller here."""
    generator = np.random.default_rng(seed)
    wrong_Q, paragraph_Q = simulated(generator, 120, 0.5, 0.35)
    in_Q = paragraph_Q < 30
    wrong_Q |= in_Q & (generator.random(600) < 0.15)  # the slice is worse by some 10 points
    wrong_P = np.bincount(paragraph_Q, weights=wrong_Q)
    observed = wrong_P[:30].mean() - wrong_P[30:].mean()
    drawn = np.array([generator.permutation(wrong_P) for _ in range(3000)])
    p = (1 + (abs(drawn[:, :30].mean(axis=1) - drawn[:, 30:].mean(axis=1)) >= abs(observed) - 1e-12).sum()) / 3001
    found = slice_p_value(in_Q, wrong_Q, paragraph_Q)
    assert 0.7 * p - 0.01 < found < 1.6 * p + 0.02


def slices_by_chance(generator: np.random.Generator, paragraphs: int, per_title: int) -> list[np.ndarray]:
    """Titles of some paragraphs each, four values that follow paragraphs, six that go by question."""
    of_P = (np.arange(paragraphs) // per_title, generator.integers(4, size=paragraphs))
    families = [np.repeat(values, 5) for values in of_P]
    families.append(generator.choice(6, p=[0.4, 0.3, 0.15, 0.1, 0.03, 0.02], size=5 * paragraphs))
    return [values == value for values in families for value in np.unique(values)]


def claims(likeness: float, rate: float, per_title: int, simulations: int) -> tuple[int, int]:
    """Simulations in which nothing differs and yet some slice is claimed to: by the package, and by Fisher's test alone."""
    generator, ours, fishers = np.random.default_rng(8), 0, 0
    for _ in range(simulations):
        wrong_Q, paragraph_Q = simulated(generator, 200, likeness, rate)
        slices = slices_by_chance(generator, 200, per_title)
        ours += bool((holm(np.array([slice_p_value(in_Q, wrong_Q, paragraph_Q) for in_Q in slices])) < LEVEL).any())
        tables = [[[(s & w).sum() for w in (wrong_Q, ~wrong_Q)] for s in (in_Q, ~in_Q)] for in_Q in slices]
        fishers += bool((holm(np.array([stats.fisher_exact(table).pvalue for table in tables])) < LEVEL).any())
    return ours, fishers


def most_by_chance(simulations: int) -> int:
    """Exceeded with a chance of 1 in 1,000 if each simulation claims with a chance of 5 %."""
    return int(stats.binom.ppf(0.999, simulations, LEVEL))


CASES = [(0.8, 0.15, 10), (0.5, 0.3, 10), (0.5, 0.2, 6)]


@pytest.mark.parametrize(("likeness", "rate", "per_title"), CASES)
def test_slices_of_alike_paragraphs_make_no_more_false_claims_than_the_level(likeness, rate, per_title):
    """Breaks with a variance from the slice alone: a title of ten paragraphs that are answered rightly throughout, which happens by
    chance, has none, and three of four analyses of the first case claimed one. Fisher's test alone claims in most of them."""
    ours, fishers = claims(likeness, rate, per_title, 40)
    assert ours <= most_by_chance(40)
    assert fishers > 20


@pytest.mark.slow
@pytest.mark.parametrize(("likeness", "rate", "per_title"), [*CASES, (0.02, 0.3, 4), (0.99, 0.5, 1), (0.2, 0.05, 12)])
def test_the_level_holds_over_many_simulations(likeness, rate, per_title):
    assert claims(likeness, rate, per_title, 100)[0] <= most_by_chance(100)


def test_a_slice_within_paragraphs_is_found():
    """A test that never claims holds its level too. 100 of 600 questions, one or so a paragraph, are wrong twice as often; the
    chance that this is missed at 0.001 is small. Breaks if the correction for paragraphs costs all power."""
    generator = np.random.default_rng(1)
    wrong_Q, paragraph_Q = simulated(generator, 120, 0.2, 0.25)
    in_Q = np.isin(np.arange(600), generator.choice(600, 100, replace=False))
    wrong_Q |= in_Q & (generator.random(600) < 0.4)
    assert slice_p_value(in_Q, wrong_Q, paragraph_Q) < 0.001


def test_holm_is_its_authors_stepwise_procedure():
    """By hand, sorted: .01 x 4, .02 x 3 = .06, .03 x 2 = .06, .04 x 1 rises to .06. Breaks if steps are not made monotone."""
    assert holm(np.array([0.03, 0.01, 0.04, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_counts_what_was_tested_and_stays_below_one():
    """NaN is no test: .02 x 2 and .6 x 1. Breaks if untested slices make the correction stricter, or are claimed."""
    np.testing.assert_allclose(holm(np.array([np.nan, 0.02, np.nan, 0.6])), [np.nan, 0.04, np.nan, 0.6])
    np.testing.assert_allclose(holm(np.array([0.9, 0.7, 0.8])), [1, 1, 1])
    np.testing.assert_allclose(holm(np.array([0.0, 0.0, 0.5])), [0, 0, 0.5])
    assert len(holm(np.array([]))) == 0
    assert np.isnan(holm(np.array([np.nan]))).all()


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (6, 0, 2 / 2**6),
        (0, 6, 2 / 2**6),
        (9, 1, 2 * (1 + 10) / 2**10),
        (8, 2, 2 * (1 + 10 + 45) / 2**10),
    ],
)
def test_the_sign_test_counts_coin_throws(better, worse, p):
    """By hand: outcomes of 10 coins with at most 1 head: 1 + 10 of 2^10, and twice that. Breaks if it is one-sided."""
    assert sign_test(better, worse) == pytest.approx(p)


def test_seeds_are_compared_by_welchs_test():
    """By hand: means 80 and 77; variances 1 and 4, n 3: error sqrt(1/3 + 4/3) = 1.29099, t 2.32379, degrees of freedom
    (5/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 2.94118. Breaks if variances are pooled (4 degrees) or divided by n."""
    found = seed_difference([79.0, 80.0, 81.0], [75.0, 77.0, 79.0])
    freedom, error = 2.941176470588235, (5 / 3) ** 0.5
    assert found.difference == pytest.approx(3.0)
    assert found.p_value == pytest.approx(2 * stats.t.sf(3 / error, freedom))
    half = stats.t.ppf(0.975, freedom) * error
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert found.p_value == pytest.approx(0.105, abs=0.005) and not found.beyond_chance


def test_the_spread_of_seeds_is_pooled_within_groups():
    """(80, 82) and (70, 74, 78): squares 2 and 32 over 1 + 2 degrees of freedom. Breaks if the means' difference counts."""
    assert pooled_deviation([(80.0, 82.0), (70.0, 74.0, 78.0), (60.0,), ()]) == (pytest.approx((34 / 3) ** 0.5), 3)
    assert pooled_deviation([(80.0,), ()]) == (None, 0)


def test_one_run_has_no_seed_noise_to_compare_with():
    assert seed_difference([80.0], [75.0, 76.0]) is None
    assert seed_difference([80.0, 81.0], [75.0]) is None


@pytest.mark.filterwarnings("error")
def test_seeds_without_spread_make_no_claim():
    """Trainings that give the same each time. Breaks if a spread of nothing, or of rounding, makes a difference certain; with NaN
    or a warning about precision. One side alone may have no spread."""
    assert seed_difference([80.0, 80.0], [75.0, 75.0]) is None
    assert seed_difference([80.0, 80.0], [80.0, 80.0, 80.0]) is None
    assert seed_difference([80.0, 80.0 + 1e-12], [75.0, 75.0]) is None
    theirs = stats.ttest_ind([80.1, 80.4, 79.7, 80.9], [79.0, 80.2, 77.7], equal_var=False)
    assert seed_difference([80.1, 80.4, 79.7, 80.9], [79.0, 80.2, 77.7]).p_value == pytest.approx(theirs.pvalue)
    one_side = seed_difference([80.0, 80.0, 80.0], [75.0, 76.0, 77.0])
    assert one_side.p_value == pytest.approx(2 * stats.t.sf(4 / (1 / 3) ** 0.5, 2))
