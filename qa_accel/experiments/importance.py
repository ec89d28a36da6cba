"""Parameters and values of finished trials -> how much each parameter matters by itself, and whether that is more than chance.

The trials are put into groups by one parameter: its choices, or quantiles of its numbers. The share is that part of the variance
of the values' ranks that is between the groups, corrected for their number: epsilon squared (Kelley 1935) on ranks, as of the
test of Kruskal and Wallis (1952). Ranks, since one trial that diverges would else be most of the variance. The p-value is that of
a permutation test (Phipson and Smyth 2010) with Holm's correction for the number of parameters. What two parameters do only
together is no parameter's.

Only finished trials count: a pruned one has no final value, and its last one comes from less training. Pruning takes away bad
trials, so shares are rather too small than too large.

Axes: T trials, G groups, R permutations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qa_accel.evaluation.significance import LEVEL, holm

LEAST_TRIALS = 10
"""Finished trials, below which nothing is said of parameters."""
PERMUTATIONS = 2000


@dataclass(frozen=True)
class Importance:
    parameter: str
    share: float
    """0 to 1, of the variance of the values' ranks."""
    p_value: float
    groups: int

    @property
    def beyond_chance(self) -> bool:
        return self.p_value < LEVEL


def importances(params: Sequence[Mapping[str, Any]], values: Sequence[float]) -> list[Importance]:
    """The most important first. Both of the finished trials, values finite; a parameter that not all of these have, or that
    has one value throughout, is left out. Empty for fewer than LEAST_TRIALS."""
    assert len(params) == len(values), "each trial has parameters and a value"
    if len(values) < LEAST_TRIALS:
        return []
    rank_T = ranks(np.asarray(values, np.float64))
    names = [name for name in params[0] if all(name in each for each in params)]
    groups = {name: group_T for name in names if (group_T := groups_of([each[name] for each in params])) is not None}
    if not groups or np.ptp(rank_T) == 0:
        return []
    p_values = holm(np.array(_p_values(rank_T, list(groups.values()))))
    found = [
        Importance(name, epsilon_squared(rank_T, group_T), float(p), int(group_T.max()) + 1)
        for (name, group_T), p in zip(groups.items(), p_values)
    ]
    return sorted(found, key=lambda each: (-each.share, each.p_value))


def groups_of(values: Sequence[Any]) -> np.ndarray | None:
    """(T,) int: the group of each trial, from 0. None where all are alike, or each is a group of its own."""
    most = 3 if len(values) < 20 else 4 if len(values) < 40 else 5
    distinct = list(dict.fromkeys(map(_key, values)))
    if all(type(value) in (int, float) for value in values) and len(distinct) > most:
        order_T = ranks(np.array(values, np.float64))
        group_T = np.minimum(((order_T - 0.5) * most / len(values)).astype(int), most - 1)
        group_T = np.unique(group_T, return_inverse=True)[1]
    else:
        place = {key: number for number, key in enumerate(distinct)}
        group_T = np.array([place[_key(value)] for value in values])
    return group_T if 1 < group_T.max() + 1 < len(values) else None


def _key(value: Any) -> tuple[str, str]:
    """What tells choices apart: True is not 1, nor is "1"."""
    return type(value).__name__, str(value)


def ranks(values_T: np.ndarray) -> np.ndarray:
    """(T,) from 1; equal values share the mean of their ranks."""
    _, inverse_T, count_V = np.unique(values_T, return_inverse=True, return_counts=True)
    last_V = np.cumsum(count_V)
    return (last_V - (count_V - 1) / 2)[inverse_T]


def epsilon_squared(rank_T: np.ndarray, group_T: np.ndarray) -> float:
    """0 to 1; what would be negative, which chance often makes of nothing, is 0."""
    total = float(((rank_T - rank_T.mean()) ** 2).sum())
    explained = _between(rank_T[None], group_T)[0] / total
    trials, groups = len(rank_T), int(group_T.max()) + 1
    return float(np.clip(1 - (1 - explained) * (trials - 1) / (trials - groups), 0, 1))


def _between(rank_RT: np.ndarray, group_T: np.ndarray) -> np.ndarray:
    """(R,) sum of squares between groups, of each row."""
    count_G = np.bincount(group_T)
    in_TG = (group_T[:, None] == np.arange(len(count_G))).astype(np.float64)
    centred_RT = rank_RT - rank_RT.mean(axis=1, keepdims=True)
    return ((centred_RT @ in_TG) ** 2 / count_G).sum(axis=1)


def _p_values(rank_T: np.ndarray, groups: Sequence[np.ndarray]) -> list[float]:
    generator = np.random.default_rng(0)
    observed = [_between(rank_T[None], group_T)[0] * (1 - 1e-9) for group_T in groups]  # equal but for rounding counts
    as_large = np.zeros(len(groups))
    for _ in range(PERMUTATIONS // 100):
        permuted_RT = generator.permuted(np.tile(rank_T, (100, 1)), axis=1)
        as_large += [(_between(permuted_RT, group_T) >= least).sum() for group_T, least in zip(groups, observed)]
    return [float((1 + count) / (1 + PERMUTATIONS)) for count in as_large]
