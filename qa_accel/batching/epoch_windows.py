"""Which windows hold an answer, and how many others an epoch may have -> the windows of each epoch.

A pure function of seed and epoch, so every rank computes it alone, and a resumed run finds the same windows again.

Windows whose number is limited take turns: their order is drawn once from the seed and closed to a circle, of which each
epoch has the next arc. So every one of them has been in as many epochs as the others, give or take one, after any number of
epochs; draws that know nothing of each other would leave out a third of them after as many epochs as one round takes.

W windows.
"""

import math
from functools import cached_property

import numpy as np

TURNS = 0x7E57
"""Third number of the seeds of circles; plans are drawn from [seed, epoch], which numpy takes as [seed, epoch, 0]."""


def circle(rows: np.ndarray, *, seed: int, number: int = 0) -> np.ndarray:
    """The rows in the order in which they take turns. `number`: which circle of the run, if it has several."""
    return np.random.default_rng([seed, number, TURNS]).permutation(rows)


def in_turn(circle: np.ndarray, count: int, epoch: int) -> np.ndarray:
    """(count,) rows of the circle, those whose turn it is in this epoch. With count > len(circle) rows come again, each as
    often as the others, give or take one."""
    return circle[(epoch * count + np.arange(count)) % len(circle)] if count else circle[:0]


class EpochWindows:
    """The windows of each epoch: all that hold an answer, and some of the others."""

    def __init__(
        self,
        with_answer_W: np.ndarray,
        negative_window_ratio: float | None,
        *,
        seed: int,
        left_out_W: np.ndarray | None = None,
    ):
        """with_answer_W: bool. negative_window_ratio: windows without answer, at most, for each one with an answer; None: all.
        left_out_W: bool, windows that are in no epoch; none of them is one with an answer.

        Raises ValueError where it limits the others and there is no window with an answer, and where all are left out.
        """
        self.with_answer_W, self.seed = with_answer_W, seed
        self.with_answer = int(np.count_nonzero(with_answer_W))
        """Number in each epoch."""
        self.others_W = ~with_answer_W if left_out_W is None else ~(with_answer_W | left_out_W)
        self.without_answer = int(np.count_nonzero(self.others_W))
        """Number in each epoch."""
        if left_out_W is not None and not len(self):
            raise ValueError(
                f"--answers first leaves out all {len(with_answer_W):,} training windows: each holds an answer of its question "
                "that is not the first one, and none holds the first. Take --answers any or all"
            )
        if negative_window_ratio is None:
            return
        if not self.with_answer:
            raise ValueError(
                f"--negative_window_ratio {negative_window_ratio:g}: none of the {len(with_answer_W):,} training windows holds "
                "an answer, so there is nothing that the others could be counted by. Give training questions with answers, "
                "or leave it out: then each epoch has every window"
            )
        # 0.29 * 100 is less than 29 in floating point
        most = math.floor(round(min(negative_window_ratio, self.without_answer) * self.with_answer, 6))
        self.without_answer = min(self.without_answer, most)

    def __len__(self) -> int:
        """Windows of each epoch."""
        return self.with_answer + self.without_answer

    def of_epoch(self, epoch: int) -> np.ndarray:
        """int32, ascending rows of the windows. A caller must allow for rows that come more than once."""
        if len(self) == len(self.with_answer_W):
            return np.arange(len(self), dtype=np.int32)
        drawn = in_turn(self._others, self.without_answer, epoch)
        return np.sort(np.concatenate([np.flatnonzero(self.with_answer_W), drawn]).astype(np.int32))

    @cached_property
    def _others(self) -> np.ndarray:
        return circle(np.flatnonzero(self.others_W).astype(np.int32), seed=self.seed)
