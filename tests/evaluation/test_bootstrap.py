"""Intervals cover what they say, on data whose true mean is known; and agree with scipy where that has the same question."""

import numpy as np
import pytest
from scipy import stats

from qa_accel.evaluation.bootstrap import best_interval, draws, mean_interval
from qa_accel.evaluation.outcomes import F1, Outcomes, best_threshold

TRUE_RATE = 0.7


def right_by_paragraph(generator: np.random.Generator, paragraphs: int) -> tuple[np.ndarray, np.ndarray]:
    """Right (1) or wrong (0) on 1 to 9 questions a paragraph, whose rates vary widely: mean 0.7, intraclass correlation 1/3."""
    count_P = generator.integers(1, 10, size=paragraphs)
    rate_P = generator.beta(2 * TRUE_RATE, 2 * (1 - TRUE_RATE), size=paragraphs)
    paragraph_Q = np.repeat(np.arange(paragraphs), count_P)
    return (generator.random(len(paragraph_Q)) < rate_P[paragraph_Q]).astype(float), paragraph_Q


def coverage(paragraphs: int, simulations: int, *, by_question: bool = False) -> float:
    """Part of the simulations whose interval has the true rate in it."""
    generator, covered = np.random.default_rng(5), 0
    for _ in range(simulations):
        right_Q, paragraph_Q = right_by_paragraph(generator, paragraphs)
        low, high = mean_interval(right_Q, np.arange(len(right_Q)) if by_question else paragraph_Q)
        covered += low <= TRUE_RATE <= high
    return covered / simulations


def test_intervals_over_paragraphs_cover_the_true_mean_and_those_over_questions_do_not():
    """95 %, of 100 simulations: three standard errors are 6.5 points. Breaks if questions are resampled, which covers about 80 %."""
    assert coverage(60, 100) == pytest.approx(0.95, abs=0.065)
    assert coverage(60, 100, by_question=True) < 0.87


def test_intervals_of_eight_paragraphs_are_wide_enough():
    """Breaks without the correction for few paragraphs: plain percentiles cover 87 % here."""
    assert coverage(8, 120) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("paragraphs", [15, 35, 60, 200])
def test_intervals_cover_by_many_simulations(paragraphs):
    """Breaks if coverage is not within 4.4 points of 95 %, four standard errors."""
    assert coverage(paragraphs, 400) == pytest.approx(0.95, abs=0.044)


def test_where_each_question_is_its_own_paragraph_it_is_the_ordinary_bootstrap():
    """Against scipy's percentile bootstrap and, since 800 questions are many, the normal interval. Breaks if resamples are of
    another size, or the percentiles are not those of 95 %."""
    score_Q = np.random.default_rng(2).beta(0.4, 0.2, size=800)
    found = mean_interval(score_Q, np.arange(800))
    theirs = stats.bootstrap((score_Q,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    error = score_Q.std(ddof=1) / 800**0.5
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.15 * error)
    assert found == pytest.approx((score_Q.mean() - 1.96 * error, score_Q.mean() + 1.96 * error), abs=0.15 * error)


def test_copies_of_a_question_in_its_paragraph_add_no_certainty():
    """Breaks if questions count as independent: each of 50 questions, eight times in its paragraph, tells no more than once."""
    score_P = np.random.default_rng(3).random(50)
    once = mean_interval(score_P, np.arange(50))
    assert mean_interval(np.repeat(score_P, 8), np.repeat(np.arange(50), 8)) == pytest.approx(once, abs=1e-12)


def test_an_interval_is_the_same_each_time_and_another_by_another_seed():
    """Breaks if the report of one run changes from one call to the next."""
    right_Q, paragraph_Q = right_by_paragraph(np.random.default_rng(0), 40)
    assert mean_interval(right_Q, paragraph_Q) == mean_interval(right_Q, paragraph_Q)
    assert mean_interval(right_Q, paragraph_Q) != mean_interval(right_Q, paragraph_Q, seed=1)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_equal_scores_have_an_interval_without_width(value):
    """All right, all wrong. Breaks if rounding moves an end beyond the value by more than a double's precision."""
    found = mean_interval(np.full(30, value), np.repeat(np.arange(10), 3))
    assert found == pytest.approx((value, value), abs=1e-15)


def test_of_one_paragraph_both_ends_are_the_mean():
    """Breaks with a division by zero, or NaN."""
    assert mean_interval(np.array([1.0, 0.0, 0.0, 1.0]), np.zeros(4, int)) == (0.5, 0.5)
    outcomes = with_odds(np.random.default_rng(0), 12, 1)
    best = best_threshold(outcomes, F1)[0]
    assert best_interval(outcomes, F1) == pytest.approx((best, best))


def test_ends_of_few_paragraphs_stay_within_what_they_have():
    """Two paragraphs, of 0 and 1: nothing but 0, 1 and their mean can be drawn."""
    assert mean_interval(np.array([0.0, 1.0]), np.array([0, 1])) == (0.0, 1.0)


def with_odds(generator: np.random.Generator, questions: int, paragraphs: int) -> Outcomes:
    has_answer_Q = generator.random(questions) < 0.6
    f1_Q = np.where(has_answer_Q, generator.choice([0.0, 0.5, 1.0], size=questions), 0.0)
    paragraph_Q = np.append(np.arange(paragraphs), generator.integers(paragraphs, size=questions - paragraphs))
    odds_Q = generator.integers(-6, 6, size=questions) - 2.0 * has_answer_Q  # ties among them
    score_Q2 = np.stack([np.floor(f1_Q), f1_Q], axis=1)
    return Outcomes([str(q) for q in range(questions)], ["x"] * questions, score_Q2, has_answer_Q, paragraph_Q, odds_Q)


def test_the_best_scores_interval_is_that_of_a_slow_restatement():
    """Each resample written out as a list of questions, and searched by the function for one set of questions.
    Breaks if paragraphs are weighted wrongly, or the search runs over other questions than were drawn."""
    outcomes = with_odds(np.random.default_rng(4), 40, 12)
    slow = []
    for n_P in draws(12, seed=0):
        rows = np.repeat(np.arange(40), n_P[outcomes.paragraph_Q].astype(int))
        drawn = Outcomes(
            [str(row) for row in rows],
            ["x"] * len(rows),
            outcomes.score_Q2[rows],
            outcomes.has_answer_Q[rows],
            outcomes.paragraph_Q[rows],
            outcomes.null_odds_Q[rows],
        )
        slow.append(best_threshold(drawn, F1)[0])
    outside = stats.norm.sf((12 / 11) ** 0.5 * stats.t.ppf(0.975, 11))
    assert best_interval(outcomes, F1) == pytest.approx(tuple(np.quantile(slow, [outside, 1 - outside])), abs=1e-12)


def test_each_resample_draws_as_many_paragraphs_as_there_are():
    """Breaks if a resample is of another size, or one paragraph is never drawn: each is on average drawn once."""
    drawn_RP = np.stack(list(draws(7, seed=3)))
    assert drawn_RP.shape == (2000, 7) and (drawn_RP.sum(axis=1) == 7).all()
    assert drawn_RP.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)
