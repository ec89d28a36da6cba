"""An epoch's windows in an order that is known beforehand, whatever stops the run and on however many ranks it goes on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_accel.batching import plan
from qa_accel.batching.epoch_windows import EpochWindows
from qa_accel.training.epochs import EpochPlans, few_answers
from qa_accel.training.part_settings import EvaluationConfig, LoopConfig
from qa_accel.training.progress import Progress


def epochs(windows: int, world_size: int, *, packed: bool = False, chosen=None, **settings) -> EpochPlans:
    """Batches of 3 windows, 2 of them accumulated if `settings` do not say another number."""
    loop = LoopConfig(**{"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2} | settings)
    lengths_W = np.random.default_rng(windows).integers(10, 60, windows)
    return EpochPlans(loop, lengths_W, seed=1, world_size=world_size, packed=packed, windows=chosen)


class Drawn:
    """Epochs of 30 windows that are drawn with repeats."""

    def __init__(self, windows: int):
        self.windows = windows

    def __len__(self) -> int:
        return 30

    def of_epoch(self, epoch: int) -> np.ndarray:
        return np.sort(np.random.default_rng(epoch).integers(0, self.windows, 30))


def one_in_seven(windows: int) -> EpochWindows:
    """Windows 0, 7, 14, ... hold an answer; each epoch has one and a half times as many others."""
    return EpochWindows(np.arange(windows) % 7 == 0, 1.5, seed=1)


@settings(max_examples=120)
@given(
    st.integers(1, 90),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), max_size=4),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([None, one_in_seven, Drawn]),
    st.sampled_from([0, 5, 256]),
)
def test_an_epoch_that_is_resumed_on_other_numbers_of_ranks_covers_its_windows_as_often_as_they_come(
    windows, stops, ranks, packed, choose, epoch
):
    """`stops`: the run was on so many ranks for so many steps, then killed. Breaks if the rest is planned from the whole
    epoch, or from another segment's plan, from the windows of another epoch, or without those that come again."""
    progress, seen = Progress(epoch=epoch), []
    chosen = None if choose is None else choose(windows)
    expected = list(range(windows)) if chosen is None else chosen.of_epoch(epoch % 256).tolist()
    for world_size, steps in [*stops, (ranks, None)]:
        run = epochs(windows, world_size, packed=packed, chosen=chosen)
        rest = run.rest_of_epoch(epoch, progress.segments)
        for step in rest[:steps]:
            real = step[step != plan.NOTHING]
            seen += real.tolist()
            progress.advance(world_size, len(real))
        if len(seen) == len(expected):
            break  # a run ends the epoch here, and the next one begins with no segments
    assert sorted(seen) == expected
    assert progress.windows == len(expected) == run.windows_per_epoch


@settings(max_examples=80)
@given(st.integers(1, 90), st.integers(1, 3), st.integers(0, 4), st.integers(1, 3), st.sampled_from([None, Drawn]))
def test_rows_that_are_measured_by_the_plans_of_a_run_hold_every_batch_that_is_left(
    windows, before, steps, after, choose
):
    """Breaks if packed rows are measured by whole epochs only: the windows that are left may be the longest ones."""
    chosen = None if choose is None else choose(windows)
    begun, run = (epochs(windows, ranks, packed=True, chosen=chosen) for ranks in (before, after))
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


def test_a_run_that_leaves_out_windows_has_as_many_steps_as_the_others_need():
    """50 windows, 0, 7, ..., 49 hold an answer: 8, with 12 others in each epoch. Steps of 3 x 2 x 2 = 12 windows: 2 an
    epoch, 6 in three. Breaks if the schedule still counts the windows that no epoch has."""
    run = epochs(50, 2, num_train_epochs=3, chosen=one_in_seven(50))
    assert (run.windows_per_epoch, run.steps_per_epoch, run.total_steps(Progress())) == (20, 2, 6)
    assert run.total_steps(Progress(step=1, segments=[[2, 1]], windows=12)) == 6
    assert epochs(50, 2, max_train_steps=5, chosen=one_in_seven(50)).epochs == 3
    others = [set(run.plan(epoch).ravel()) - {plan.NOTHING, *range(0, 50, 7)} for epoch in range(3)]
    assert not others[0] & others[1] and len(others[0] | others[1] | others[2]) == 36


@pytest.mark.parametrize("packed", [False, True])
def test_a_ratio_that_leaves_out_nothing_gives_the_plan_without_it_to_the_byte(packed):
    lengths_W = np.random.default_rng(0).integers(10, 60, 50)
    every = EpochWindows(np.arange(50) % 7 == 0, 1e9, seed=1)
    one, other = (
        EpochPlans(LoopConfig(), lengths_W, seed=1, world_size=2, packed=packed, windows=windows)
        for windows in (None, every)
    )
    assert all(one.plan(epoch).tobytes() == other.plan(epoch).tobytes() for epoch in range(3))


def test_a_run_with_few_answers_is_pointed_to_the_flag_once_and_only_if_nothing_was_said():
    """4 of 100 windows are few, 5 are not. An epoch of 4 + 4 windows in place of 100 is 12.5 times as fast."""
    few, enough = (EpochWindows(np.arange(100) < answers, None, seed=0) for answers in (4, 5))
    assert few_answers(LoopConfig(), enough) is None
    assert few_answers(LoopConfig(negative_window_ratio=3), few) is None
    assert few_answers(LoopConfig(), EpochWindows(np.zeros(100, bool), None, seed=0)) is None
    warning = few_answers(LoopConfig(), few)
    assert warning is not None and warning.count("--negative_window_ratio") == 1
    assert "4 of 100 training windows (4.0%)" in warning and "12 times as fast" in warning


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
