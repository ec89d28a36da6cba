"""An epoch's windows in an order that is known beforehand, whatever stops the run and on however many ranks it goes on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_accel.batching import plan
from qa_accel.training.epochs import EpochPlans, LoopConfig
from qa_accel.training.evaluator import EvaluationConfig
from qa_accel.training.progress import Progress


def epochs(windows: int, world_size: int, *, packed: bool = False, **settings) -> EpochPlans:
    """Batches of 3 windows, 2 of them accumulated if `settings` do not say another number."""
    loop = LoopConfig(**{"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2} | settings)
    lengths_W = np.random.default_rng(windows).integers(10, 60, windows)
    return EpochPlans(loop, lengths_W, seed=1, world_size=world_size, packed=packed)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 90),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), max_size=4),
    st.integers(1, 4),
    st.booleans(),
)
def test_an_epoch_that_is_resumed_on_other_numbers_of_ranks_covers_each_window_once(windows, stops, ranks, packed):
    """`stops`: the run was on so many ranks for so many steps, then killed. Breaks if the rest is planned from the whole
    epoch, or from another segment's plan."""
    progress, seen = Progress(), []
    for world_size, steps in [*stops, (ranks, None)]:
        rest = epochs(windows, world_size, packed=packed).rest_of_epoch(0, progress.segments)
        for step in rest[:steps]:
            real = step[step != plan.NOTHING]
            seen += real.tolist()
            progress.advance(world_size, len(real))
        if len(seen) == windows:
            break  # a run ends the epoch here, and the next one begins with no segments
    assert sorted(seen) == list(range(windows))
    assert progress.windows == windows


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 90), st.integers(1, 3), st.integers(0, 4), st.integers(1, 3))
def test_rows_that_are_measured_by_the_plans_of_a_run_hold_every_batch_that_is_left(windows, before, steps, after):
    """Breaks if packed rows are measured by whole epochs only: the windows that are left may be the longest ones."""
    begun, run = (epochs(windows, ranks, packed=True) for ranks in (before, after))
    steps = min(steps, begun.steps_per_epoch - 1)
    progress = Progress(step=steps, segments=[[before, steps]] if steps else [])
    longest_row = plan.row_tokens(run.lengths_W, run.plans(progress), multiple=1)
    rest = run.rest_of_epoch(0, progress.segments)
    assert plan.batch_tokens(run.lengths_W, rest).max() <= longest_row
    if before == after:
        assert longest_row == plan.row_tokens(run.lengths_W, run.plans(Progress()), multiple=1)


def test_resuming_on_the_same_number_of_ranks_is_skipping_steps_of_the_plan():
    whole = epochs(50, 2)
    assert np.array_equal(whole.rest_of_epoch(1, []), whole.plan(1))
    assert np.array_equal(whole.rest_of_epoch(1, [[2, 3]]), whole.plan(1)[3:])


def test_a_runs_length_is_counted_in_optimizer_steps():
    """50 windows in steps of 3 x 2 x 2 = 12: 5 steps an epoch, 15 in three; after 4 steps on 2 ranks and a change to 1
    rank, 2 windows are left in this epoch: 1 step, and 9 in each of two more."""
    two, one = (epochs(50, ranks, num_train_epochs=3) for ranks in (2, 1))
    assert two.total_steps(Progress()) == 15
    assert one.total_steps(Progress()) == 27
    assert one.total_steps(Progress(step=4, segments=[[2, 4]], windows=48)) == 4 + 1 + 9 + 9
    assert two.total_steps(Progress(step=15, epoch=3, windows=150)) == 15
    assert epochs(50, 2, max_train_steps=7).total_steps(Progress(step=4, segments=[[2, 4]])) == 7


def test_a_run_of_so_many_steps_begins_no_more_epochs_than_it_needs():
    """50 windows on 2 ranks are 5 steps an epoch: 7 steps reach into a second one, 10 end with it."""
    assert [epochs(50, 2, max_train_steps=steps).epochs for steps in (1, 5, 7, 10, 11)] == [1, 1, 2, 2, 3]
    assert epochs(50, 2, num_train_epochs=3).epochs == 3


def test_a_million_epochs_are_measured_by_the_orders_that_they_repeat():
    """Breaks if a packed run plans each of its epochs before its first step: here that would take minutes."""
    run = epochs(50, 2, num_train_epochs=1_000_000)
    assert sum(1 for _ in run.plans(Progress())) == 256 + 1, "all orders, and what is left of this epoch"
    assert np.array_equal(run.plan(256), run.plan(0)) and not np.array_equal(run.plan(255), run.plan(0))


def test_more_batches_than_windows_to_a_step_are_refused_but_for_trial_runs():
    """10 windows: 1,000 batches are mostly empty and cost little; two billion would take hours. Breaks if they are planned."""
    assert epochs(10, 1, gradient_accumulation_steps=1000).plan(0).shape == (1, 1000, 1, 1)
    with pytest.raises(ValueError, match="--gradient_accumulation_steps 2000000000 is more than the 10 windows"):
        epochs(10, 1, gradient_accumulation_steps=2_000_000_000)


@pytest.mark.parametrize(
    ("config_class", "name"),
    [
        (LoopConfig, "num_train_epochs"),
        (LoopConfig, "max_train_steps"),
        (EvaluationConfig, "eval_steps"),
        (EvaluationConfig, "early_stopping_patience"),
    ],
)
def test_counts_below_one_are_refused(config_class, name):
    with pytest.raises(ValueError, match=f"--{name} must be at least 1, got 0"):
        config_class(**{name: 0})
