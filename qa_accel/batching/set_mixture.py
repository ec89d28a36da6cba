"""Windows of several sets and the sets' weights -> the windows of each epoch.

With weights, an epoch has weight x windows of each set: 3.0 has every window three times, 0.5 a half of them, another half in the
next epoch. With a temperature T, these numbers n become n ** (1 / T), scaled to the same sum: T = 1 leaves them, and the higher T,
the more alike the sets' shares (the sampling of multilingual BERT, arXiv:1810.04805's repository, and of mT5, arXiv:2010.11934, in
which 1 / T is the exponent). A pure function of seed and epoch, as `epoch_windows`, whose turns it takes.

W windows, S sets.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from qa_accel.batching.epoch_windows import EpochWindows, circle, in_turn


class SetMixture:
    """The windows of each epoch, by set."""

    def __init__(
        self,
        names: Sequence[str],
        weights: Sequence[float],
        set_W: np.ndarray,
        with_answer_W: np.ndarray,
        *,
        temperature: float,
        negative_window_ratio: float | None,
        seed: int,
        left_out_W: np.ndarray | None = None,
    ):
        """`weights`: of the sets in the order of `names`. `set_W`: index of each window's set. `with_answer_W`: bool.
        `left_out_W`: bool, windows that are in no epoch.

        Raises ValueError for a set without a window that an epoch could have.
        """
        self.names, self.seed = tuple(names), seed
        self._strata: list[tuple[np.ndarray, int]] = []
        """Rows that take turns, and how many of them each epoch has."""
        all_sets = EpochWindows(with_answer_W, negative_window_ratio, seed=seed, left_out_W=left_out_W)
        if left_out_W is not None:
            set_W = np.where(left_out_W, len(names), set_W)
        kept = all_sets.without_answer / max(1, np.count_nonzero(all_sets.others_W))
        groups = [self._groups(number, set_W, with_answer_W, kept) for number in range(len(names))]
        sizes_S = np.array([sum(size for _, size in strata) for strata in groups], np.float64)
        self.quota_S = quotas(sizes_S, np.asarray(weights, np.float64), temperature)
        """(S,) int64, windows of each set in an epoch."""
        self.with_answer = 0
        """Number in each epoch."""
        for strata, size, quota in zip(groups, sizes_S, self.quota_S.tolist(), strict=True):
            # windows with an answer are what the ratio is for: a small share of a set has one at least
            first = max(round(quota * strata[0][1] / size), min(1, strata[0][1]))
            shares = [first, quota - first] if len(strata) == 2 else [quota]
            self._strata += zip((rows for rows, _ in strata), shares, strict=True)
            self.with_answer += shares[0] if len(strata) == 2 else round(quota * with_answer_W[strata[0][0]].mean())
        self.without_answer = len(self) - self.with_answer

    def __len__(self) -> int:
        """Windows of each epoch."""
        return int(self.quota_S.sum())

    def of_epoch(self, epoch: int) -> np.ndarray:
        """int32, ascending rows of the windows, each as often as the epoch has it."""
        drawn = [in_turn(turns, share, epoch) for turns, share in self._circles]
        return np.sort(np.concatenate(drawn).astype(np.int32))

    @cached_property
    def _circles(self) -> list[tuple[np.ndarray, int]]:
        return [
            (circle(rows.astype(np.int32), seed=self.seed, number=number), share)
            for number, (rows, share) in enumerate(self._strata, start=1)
        ]

    def _groups(
        self, number: int, set_W: np.ndarray, with_answer_W: np.ndarray, kept: float
    ) -> list[tuple[np.ndarray, int]]:
        """Rows of a set that take turns, and how many of them an epoch has without weights. `kept`: share of the windows without
        answer, the same in every set."""
        rows = np.flatnonzero(set_W == number)
        if not len(rows):
            raise ValueError(f"the set {self.names[number]} has no training window; take it out of --train_file")
        if kept == 1:
            return [(rows, len(rows))]
        with_answer = with_answer_W[rows]
        first, others = rows[with_answer], rows[~with_answer]
        strata = [(first, len(first)), (others, round(kept * len(others)))]
        if not any(size for _, size in strata):
            raise ValueError(
                f"the set {self.names[number]} has no window with an answer, and --negative_window_ratio leaves none of the others "
                "in an epoch; take it out of --train_file, or raise the ratio"
            )
        return strata


def quotas(sizes_S: np.ndarray, weights_S: np.ndarray, temperature: float) -> np.ndarray:
    """(S,) int64: windows of each set in an epoch, at least one of each."""
    wanted_S = sizes_S * weights_S
    # by logarithms: a power of a million windows may exceed every float at a small temperature
    exponents_S = np.log(weights_S) + np.log(sizes_S) / temperature
    shares_S = np.exp(exponents_S - exponents_S.max())
    shares_S *= math.fsum(wanted_S) / math.fsum(shares_S)
    return np.maximum(1, np.rint(wanted_S if temperature == 1 else shares_S)).astype(np.int64)
