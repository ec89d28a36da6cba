"""The median rule, by hand."""

from qa_accel.experiments.pruning import why_hopeless
from qa_accel.experiments.trials import Trial


def trial(*values: float, state: str = "finished") -> Trial:
    return Trial(0, state, {}, evaluations=[[10 * (place + 1), value] for place, value in enumerate(values)])


OTHERS = [trial(10, 50), trial(10, 60), trial(10, 70), trial(10, 80), trial(10, 90)]


def test_a_trial_below_the_median_of_the_others_at_the_same_evaluation_is_hopeless():
    """The median at the second evaluation is 70. Breaks if it is that of final values or of the mean."""
    assert (
        why_hopeless([20, 69.9], OTHERS)
        == "best value 69.90 after 2 evaluations, the median of 5 other trials is 70.00"
    )
    assert why_hopeless([20, 70.0], OTHERS) is None


def test_its_best_value_counts_and_theirs():
    """Breaks if one bad evaluation of a good trial ends it, or a late drop of the others lowers the mark."""
    assert why_hopeless([80, 10], OTHERS) is None
    dropped = [trial(75, 1) for _ in OTHERS]
    assert why_hopeless([70, 71], dropped) is not None


def test_others_are_compared_as_far_as_they_had_come():
    """Breaks if their later evaluations count: a good trial that starts slowly would be pruned."""
    late = [trial(10, 20, 90) for _ in range(5)]
    assert why_hopeless([5, 30], late) is None


def test_nothing_is_pruned_before_five_ended_trials_or_at_a_first_evaluation():
    assert why_hopeless([0, 0], OTHERS[:4]) is None
    assert why_hopeless([0, 0], [*OTHERS[:4], trial(10, 90, state="running")]) is None
    assert why_hopeless([0], OTHERS) is None
    assert why_hopeless([0, 0], OTHERS) is not None


def test_failed_trials_do_not_count():
    """Breaks if four good trials and a failed one make five."""
    assert why_hopeless([0, 0], [*OTHERS[:4], trial(10, 90, state="failed")]) is None


def test_a_trial_with_more_evaluations_than_any_other_goes_on():
    assert why_hopeless([0, 0, 0], OTHERS) is None
