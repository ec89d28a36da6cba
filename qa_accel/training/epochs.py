"""Settings of the loop + lengths of the windows -> what comes in which optimizer step, from any point on.

Resuming is skipping entries of a plan, and a plan is a function of its arguments; so all that has to be remembered of an
epoch is with how many ranks how many steps of it were made.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from qa_accel.batching import plan
from qa_accel.batching.epoch_windows import EpochWindows
from qa_accel.batching.set_mixture import SetMixture
from qa_accel.data.audit import EpochReport
from qa_accel.data.named_sets import SetRows
from qa_accel.data.splits import Split
from qa_accel.training.part_settings import LoopConfig
from qa_accel.training.progress import Progress

DIFFERENT_EPOCHS = 256
"""Orders of the windows; then they repeat. Packed rows are as long as the fullest batch of all orders, and a run that its
time limit ends may have been given a million epochs."""
SMALL_ACCUMULATION = 1000
"""Batches of a step that may be empty on a rank, as in a trial run on ten questions: they cost seconds."""


FEW_ANSWERS = 0.05
"""Share of the windows with an answer below which a run says how to leave out others. In SQuAD v2 half of the windows hold
an answer, in news articles one of four; with fewer than one of twenty, nearly all of the time goes into "no answer"."""


def windows_of_epochs(
    loop: LoopConfig, train: Split, seed: int, weights: Mapping[str, float]
) -> tuple[EpochWindows | SetMixture, Split]:
    """The windows of each epoch, and the training split with their numbers in its audit.

    `weights`: of the named sets, empty if there are none.
    """
    windows, report = train.windows, train.report
    chosen = _chosen(loop, train, seed, weights)
    every_window_once = isinstance(chosen, EpochWindows) and len(chosen) == len(windows)
    if every_window_once or report is None or report.windows is None:
        return chosen, train
    numbers = EpochReport(chosen.with_answer, chosen.without_answer)
    report = dataclasses.replace(report, windows=dataclasses.replace(report.windows, epoch=numbers))
    return chosen, dataclasses.replace(train, report=report)


def _chosen(loop: LoopConfig, train: Split, seed: int, weights: Mapping[str, float]) -> EpochWindows | SetMixture:
    windows, temperature = train.windows, loop.sampling_temperature
    with_answer_W = windows.start_W != windows.null_W
    if temperature is not None and not weights:
        raise ValueError(
            f"--sampling_temperature {temperature:g} is for several named training sets: --train_file a=A.json b=B.json"
        )
    sets = SetRows.of(train.questions)
    if missing := weights.keys() - set(sets.names if sets is not None else ()):
        raise ValueError(
            f"the set {min(missing)} has no training question left: the answers of all are not at their offsets. Look at the audit "
            "(scripts/prepare.py), or take the set out of --train_file"
        )
    if (temperature or 1) == 1 and all(weight == 1 for weight in weights.values()):
        return EpochWindows(with_answer_W, loop.negative_window_ratio, seed=seed, left_out_W=windows.left_out_W)
    assert sets is not None, "sets that have weights have names"
    return SetMixture(
        sets.names,
        [weights[name] for name in sets.names],
        sets.set_Q[windows.question_W],
        with_answer_W,
        temperature=temperature or 1.0,
        negative_window_ratio=loop.negative_window_ratio,
        seed=seed,
        left_out_W=windows.left_out_W,
    )


def few_answers(loop: LoopConfig, chosen: EpochWindows | SetMixture) -> str | None:
    """A warning, if nearly all windows of an epoch are without answer and nothing was said about them."""
    share = chosen.with_answer / max(1, len(chosen))
    if loop.negative_window_ratio is not None or not 0 < share < FEW_ANSWERS:
        return None
    return (
        f"only {chosen.with_answer:,} of {len(chosen):,} training windows ({share:.1%}) hold an answer. With "
        f"--negative_window_ratio 1, each epoch has {chosen.with_answer:,} of the others, in turn, and is "
        f"{1 / (2 * share):.0f} times as fast"
    )


class EpochPlans:
    """Which windows come when: epochs' plans, and how many optimizer steps they make."""

    def __init__(
        self,
        loop: LoopConfig,
        lengths_W: np.ndarray,
        *,
        seed: int,
        world_size: int,
        packed: bool,
        windows: EpochWindows | SetMixture | None = None,
    ):
        """`windows`: those of each epoch; None: every window once."""
        self.loop, self.lengths_W, self.seed, self.world_size, self.packed = loop, lengths_W, seed, world_size, packed
        self.windows = windows
        self.windows_per_epoch = len(lengths_W) if windows is None else len(windows)
        if loop.gradient_accumulation_steps > max(self.windows_per_epoch, SMALL_ACCUMULATION):
            raise ValueError(
                f"--gradient_accumulation_steps {loop.gradient_accumulation_steps} is more than the {self.windows_per_epoch} "
                "windows of an epoch: most of a step's batches would be empty. Lower it"
            )
        step_size = loop.per_device_train_batch_size * loop.gradient_accumulation_steps * world_size
        self.steps_per_epoch = -(-self.windows_per_epoch // step_size)
        wanted = loop.max_train_steps
        self.epochs = loop.num_train_epochs if wanted is None else -(-wanted // self.steps_per_epoch)
        """Epochs that the run begins."""

    def plan(self, epoch: int) -> np.ndarray:
        """(steps, accumulation, ranks, batch_size or what the data can fill of it) of a whole epoch."""
        return self._plan(epoch, self.world_size, None)

    def rest_of_epoch(self, epoch: int, segments: list[list[int]]) -> np.ndarray:
        """(steps, accumulation, ranks, batch_size) of what is left of an epoch after `segments` [ranks, steps done].

        An epoch that is resumed on another number of ranks is planned again for the remaining windows.
        """
        left = None
        rest = self._plan(epoch, self.world_size, None)
        for world_size, steps in segments:
            done = self._plan(epoch, world_size, left)
            rest = done[steps:]
            left = rest[rest != plan.NOTHING]
        if segments and segments[-1][0] != self.world_size:
            rest = self._plan(epoch, self.world_size, left)
        return rest

    def plans(self, progress: Progress) -> Iterator[np.ndarray]:
        """Of all epochs, those that are over too: what follows from them (the rows' length) is the same after a resume.

        The rest of an epoch that was begun on another number of ranks has its own plan.
        """
        yield from map(self.plan, range(min(self.epochs, DIFFERENT_EPOCHS)))
        if progress.epoch < self.epochs:
            yield self.rest_of_epoch(progress.epoch, progress.segments)

    def total_steps(self, progress: Progress) -> int:
        """Optimizer steps of the whole run, given the progress so far."""
        if self.loop.max_train_steps is not None:
            return self.loop.max_train_steps
        epochs_to_come = self.loop.num_train_epochs - progress.epoch - 1
        in_this_epoch = len(self.rest_of_epoch(progress.epoch, progress.segments)) if epochs_to_come >= 0 else 0
        return progress.step + in_this_epoch + max(0, epochs_to_come) * self.steps_per_epoch

    def _plan(self, epoch: int, world_size: int, rows: np.ndarray | None) -> np.ndarray:
        """rows: what is left of the epoch; None: all of it."""
        epoch %= DIFFERENT_EPOCHS
        if rows is None and self.windows is not None:
            rows = self.windows.of_epoch(epoch)
        return plan.training_plan(
            self.lengths_W,
            seed=self.seed,
            epoch=epoch,
            batch_size=self.loop.per_device_train_batch_size,
            accumulation=self.loop.gradient_accumulation_steps,
            world_size=world_size,
            packed=self.packed,
            rows=rows,
            epoch_size=self.windows_per_epoch,
        )
