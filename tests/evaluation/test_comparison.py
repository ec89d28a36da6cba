"""Two sides compared, on data whose difference is known by hand or by how it was drawn."""

import numpy as np
import pytest
from scipy import stats

from qa_accel.evaluation.comparison import Comparison, compare

PARAGRAPHS = np.repeat(np.arange(60), 5)
SLICES = {("question_word", f"w{value}"): np.arange(300)[np.arange(300) % 6 == value] for value in range(6)}


def run(exact_Q: np.ndarray) -> np.ndarray:
    """F1 of wrong answers is 0.25."""
    return np.stack([exact_Q, np.maximum(exact_Q, 0.25)], axis=1).astype(float)


def random_run(seed: int, rate: float = 0.7) -> np.ndarray:
    return run(np.random.default_rng(seed).random(300) < rate)


def test_identical_runs_do_not_differ():
    """Breaks with NaN, with an interval of some width, or with a claim."""
    same = random_run(0)
    found = compare([same], [same.copy()], PARAGRAPHS, SLICES)
    assert (found.questions, found.better, found.worse, found.p_value) == (300, 0, 0, 1.0)
    for each in found.differences.values():
        assert (each.difference, each.low, each.high, each.seeds) == (0.0, 0.0, 0.0, None)
        assert not each.beyond_chance
    assert {each.p_value for each in found.slices} == {1.0}


def test_figures_by_hand():
    """20 questions on paragraphs of their own: one side has the first 12 right, the other the last 10. Better: 10, worse: 8."""
    first, second = run(np.arange(20) < 12), run(np.arange(20) >= 10)
    found = compare(
        [first], [second], np.arange(20), {("overlap", "all"): np.arange(10), ("overlap", "other"): np.arange(9)}
    )
    exact, f1 = found.differences["exact"], found.differences["f1"]
    assert (exact.one, exact.other, exact.difference) == pytest.approx((60, 50, 10))
    assert (f1.one, f1.other, f1.difference) == pytest.approx((70, 62.5, 7.5))
    assert exact.low < 10 < exact.high and exact.paragraphs == 20
    assert (found.better, found.worse) == (10, 8)
    assert found.p_value == pytest.approx(stats.binomtest(10, 18).pvalue)
    of = {each.value: each for each in found.slices}
    assert (of["all"].questions, of["all"].one, of["all"].other) == (10, 100, 0)
    assert (of["all"].better, of["all"].worse, of["all"].p_value) == (10, 0, pytest.approx(2 / 2**10))
    assert of["other"].p_value is None and not of["other"].beyond_chance, "nine questions are too few"


def test_a_slice_in_which_one_side_is_better_comes_first():
    """Both are right on 60 %, but the one side on 95 % of w4. Breaks if it is not found, or another is claimed."""
    one, other = random_run(1, 0.6), random_run(2, 0.6)
    rows = SLICES["question_word", "w4"]
    one[rows] = run(np.random.default_rng(3).random(len(rows)) < 0.98)
    found = compare([one], [other], PARAGRAPHS, SLICES)
    assert [each.value for each in found.slices if each.beyond_chance] == ["w4"]
    best = found.slices[0]
    assert best.value == "w4" and best.better > best.worse
    assert best.one == pytest.approx(100 * one[rows, 0].mean()) and best.other == pytest.approx(
        100 * other[rows, 0].mean()
    )


@pytest.mark.parametrize("seeds", [1, 3])
def test_swapped_sides_have_the_negated_figures(seeds):
    """Breaks if a side is treated otherwise than the other."""
    one, other = [random_run(seed, 0.75) for seed in range(seeds)], [random_run(10 + seed) for seed in range(seeds)]
    forth, back = compare(one, other, PARAGRAPHS, SLICES), compare(other, one, PARAGRAPHS, SLICES)
    assert (forth.better, forth.worse, forth.p_value) == (back.worse, back.better, back.p_value)
    for metric in ("exact", "f1"):
        a, b = forth.differences[metric], back.differences[metric]
        assert (a.one, a.difference) == pytest.approx((b.other, -b.difference))
        assert (a.low, a.high) == pytest.approx((-b.high, -b.low), abs=1e-9)
        if a.seeds is not None:
            assert (a.seeds.low, a.seeds.p_value) == pytest.approx((-b.seeds.high, b.seeds.p_value))
    assert _by_slice(forth) == pytest.approx(_by_slice(back))


def _by_slice(found: Comparison) -> dict[str, float | None]:
    return {each.value: each.p_value for each in found.slices}


def test_seeds_are_means_with_welchs_interval_over_runs():
    """Right of 300: 210, 213, 216 against 201, 204, 207: 70, 71, 72 % against 67, 68, 69 %. Variances 1 and 1, n 3: error
    sqrt(2/3), 4 degrees of freedom. Breaks if seeds are pooled as questions, or their spread is that of the questions."""
    sides = [[run(np.arange(300) < right) for right in rights] for rights in ((210, 213, 216), (201, 204, 207))]
    exact = compare(*sides, PARAGRAPHS, SLICES).differences["exact"]
    assert (exact.one, exact.other) == pytest.approx((71, 68))
    half = stats.t.ppf(0.975, 4) * (2 / 3) ** 0.5
    assert (exact.seeds.low, exact.seeds.high) == pytest.approx((3 - half, 3 + half))
    assert exact.seeds.p_value == pytest.approx(2 * stats.t.sf(3 / (2 / 3) ** 0.5, 4))


def test_a_question_flips_where_more_seeds_have_it_right():
    """By hand: 2 of 3 against 1 of 2 is better, 1 of 3 against 1 of 2 worse, 2 of 3 against 2 of 3 neither; breaks with rounding."""
    one = [run(np.array(each)) for each in ([1, 1, 1], [1, 0, 0], [0, 0, 1])]
    found = compare(one, [run(np.array([1, 1, 1])), run(np.array([0, 0, 0]))], np.arange(3), {})
    assert (found.better, found.worse) == (2, 1)
    again = compare(one, [one[2], one[0], one[1]], np.arange(3), {})
    assert (again.better, again.worse, again.differences["exact"].difference) == (0, 0, pytest.approx(0))


def test_a_difference_within_seed_noise_is_not_claimed():
    """Questions differ beyond chance, seeds do not: both must. Breaks if either alone is enough."""
    rights = ((150, 280), (140, 260))
    f1 = compare(*[[run(np.arange(300) < right) for right in side] for side in rights], PARAGRAPHS, {}).differences[
        "f1"
    ]
    assert f1.low > 0 and f1.seeds is not None and not f1.seeds.beyond_chance and not f1.beyond_chance


def test_equal_scores_of_all_runs_of_a_side_make_no_claim_about_seeds():
    """Two runs of a side, 210 right in each, other questions; the other side's have 201. Breaks if no spread means p = 0. With
    `with_seeds=False`, runs that have a spread are not tested either."""
    (a, b), (c, d) = [[run(np.arange(300) < n), run(np.arange(300) >= 300 - n)] for n in (210, 201)]
    assert compare([a, b], [c, d], PARAGRAPHS, {}).differences["exact"].seeds is None
    spread = [a, run(np.arange(300) < 220)], [c, d]
    assert compare(*spread, PARAGRAPHS, {}).differences["exact"].seeds is not None
    assert compare(*spread, PARAGRAPHS, {}, with_seeds=False).differences["exact"].seeds is None


def test_two_seeds_against_one_have_no_seed_noise():
    found = compare([random_run(0), random_run(1)], [random_run(2)], PARAGRAPHS, {})
    assert found.differences["f1"].seeds is None and found.slices == []


@pytest.mark.parametrize(("paragraphs", "claimed"), [(1, False), (5, False), (6, True)])
def test_few_paragraphs_make_no_claim(paragraphs, claimed):
    """One side is right throughout. Of five paragraphs, all are on one side in 6 % of cases by chance; of one, always: it has no
    interval. Breaks if questions on one context decide between models, or if the difference itself passes for its interval."""
    paragraph_Q = np.arange(60) % paragraphs
    difference = compare([run(np.ones(60))], [run(np.arange(60) % 12 < 6)], paragraph_Q, {}).differences["exact"]
    assert difference.paragraphs == paragraphs and difference.difference == 50
    assert difference.low is None if paragraphs == 1 else difference.low > 0
    assert (difference.beyond_chance, difference.has_few_paragraphs) == (claimed, not claimed)


def flips(generator: np.random.Generator, *, alike: bool) -> list[np.ndarray]:
    """Two runs, equal but for a fifth of the questions, which either side may win; `alike`: on a paragraph, the same side."""
    base_Q = generator.random(300) < 0.6
    won_Q = generator.random(60)[PARAGRAPHS] < 0.5 if alike else generator.random(300) < 0.5
    flipped_Q = generator.random(300) < 0.4
    return [run(np.where(flipped_Q, side, base_Q)) for side in (won_Q, ~won_Q)]


@pytest.mark.parametrize("alike", [False, True])
def test_where_sides_are_equal_no_more_slices_are_claimed_than_the_level(alike):
    """60 comparisons; more than 9 with a claim come by chance less than once in 1,000 times. Slices are by question and by title of
    ten paragraphs. Breaks without the correction for their number or, where the flips of a paragraph go the same way, without the
    test on paragraphs."""
    generator = np.random.default_rng(21)
    slices = SLICES | {("title", str(title)): np.flatnonzero(np.equal(PARAGRAPHS // 10, title)) for title in range(6)}
    claims = 0
    for _ in range(60):
        one, other = flips(generator, alike=alike)
        claims += any(each.beyond_chance for each in compare([one], [other], PARAGRAPHS, slices).slices)
    assert claims <= stats.binom.ppf(0.999, 60, 0.05)


def test_the_interval_of_equal_sides_excludes_0_as_often_as_it_says():
    """60 comparisons in which the flips of a paragraph go the same way. Breaks if questions are resampled: about half exclude 0."""
    generator = np.random.default_rng(22)
    claims = sum(
        compare([one], [other], PARAGRAPHS, {}).differences["exact"].beyond_chance
        for one, other in (flips(generator, alike=True) for _ in range(60))
    )
    assert claims <= stats.binom.ppf(0.999, 60, 0.05)
