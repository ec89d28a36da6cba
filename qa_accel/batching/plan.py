"""Lengths of the windows -> which windows go into which batch: of every step and rank in training, in order in prediction.

A plan is an array of window indices, -1 where a batch holds nothing, and never wider than the windows need. It is a pure
function of its arguments, so every rank makes it alone, and resuming is skipping entries.

Packed batches are balanced: the windows are sorted by length, cut into batch_size groups, and of every group each
batch gets one, the longest going to the batch that has the fewest tokens so far. All batches then have as many windows
and nearly as many tokens, and each of them is a sample of all lengths.
Padded batches are grouped: windows of similar length share a batch, and a step's batches have similar lengths too, so that little
is padded and no rank waits for another.

W windows, B windows of one batch.
"""

from collections.abc import Iterable

import numpy as np

NOTHING = -1


def training_plan(
    lengths_W: np.ndarray,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    accumulation: int,
    world_size: int,
    packed: bool,
    rows: np.ndarray | None = None,
    epoch_size: int | None = None,
) -> np.ndarray:
    """(steps, accumulation, world_size, width) int32: the planned windows in an order drawn from (seed, epoch). The width is
    batch_size, or less if the windows of an epoch are not enough for one step: it is the same in every epoch.

    Only the last step may hold NOTHING; there the batches' numbers of windows differ by one at most. Which windows
    make up a step depends on accumulation and world_size through their product alone.

    packed: the tokens of two full batches (of any step but a last one that holds NOTHING) differ by no more than the
    widest of the batch_size groups, its longest window less its shortest; for lengths like SQuAD's that is far below
    2 % of a batch, for any lengths it is at most the longest window less the shortest of the epoch.

    rows: the windows to plan, in any order, each as often as it is there (an epoch's own, or what is left of an epoch that
    is resumed on another number of ranks); None: every window once.
    epoch_size: number of windows of the whole epoch, if it is not that of lengths_W.
    """
    for name, value in (("batch_size", batch_size), ("accumulation", accumulation), ("world_size", world_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    size = len(lengths_W) if epoch_size is None else epoch_size
    width = max(1, min(batch_size, -(-size // (accumulation * world_size))))
    rng = np.random.default_rng([seed, epoch])
    if rows is None:
        shuffled = np.arange(len(lengths_W), dtype=np.int32)
    else:
        shuffled = np.sort(rows).astype(np.int32)  # the same plan in whatever order they were found
    rng.shuffle(shuffled)
    batches_per_step = accumulation * world_size
    in_full_steps = len(shuffled) // (batches_per_step * batch_size) * (batches_per_step * batch_size)
    if packed:
        full_W, rest_W = _split_evenly(lengths_W, shuffled, in_full_steps, rng)
        full = _deal(lengths_W, full_W, len(full_W) // batch_size)
        rng.shuffle(full)  # batches that were dealt side by side are complementary: they should not share a step
        rng.permuted(full, axis=1, out=full)
        rest = _deal(lengths_W, rest_W, batches_per_step)
    else:
        full_W, rest_W = np.split(shuffled, [in_full_steps])
        full = _group(lengths_W, full_W, batches_per_step * batch_size, max(16, 64 // batches_per_step))
        rng.shuffle(full)
        rest = _cut(rest_W[_longest_first(lengths_W[rest_W])], batches_per_step)
    plan = full.reshape(-1, accumulation, world_size, width)
    if len(rest_W) > 0:
        rest = np.pad(rest, ((0, 0), (0, width - rest.shape[1])), constant_values=NOTHING)
        plan = np.concatenate([plan, rest.reshape(1, accumulation, world_size, width)])
    return plan


def evaluation_plan(lengths_W: np.ndarray, batch_size: int) -> np.ndarray:
    """(batches, batch_size) int32: longest windows first, so that the fullest batch comes first; fill in the last one. If the
    windows do not fill one batch, it is as wide as they are many.

    Depends on the data alone, so a window has the same batch, and the same logits to the bit, on any number of ranks.
    """
    batch_size = max(1, min(batch_size, len(lengths_W)))
    order_W = _longest_first(lengths_W).astype(np.int32)
    fill = -len(order_W) % batch_size
    return np.pad(order_W, (0, fill), constant_values=NOTHING).reshape(-1, batch_size)


def packed_evaluation_plan(lengths_W: np.ndarray, batch_size: int) -> np.ndarray:
    """(batches, batch_size) int32 for one row of tokens each: balanced sums, numbers of windows within one of another.

    Depends on the data alone, as evaluation_plan does.
    """
    batch_size = max(1, min(batch_size, len(lengths_W)))
    batches = -(-len(lengths_W) // batch_size)
    plan = _deal(lengths_W, np.arange(len(lengths_W), dtype=np.int32), batches)
    return np.pad(plan, ((0, 0), (0, batch_size - plan.shape[1])), constant_values=NOTHING)


def rank_batches(plan: np.ndarray, rank: int) -> np.ndarray:
    """(steps * accumulation, batch_size): what this rank runs, in order; entry n belongs to step n // accumulation."""
    return plan[:, :, rank].reshape(-1, plan.shape[-1])


def batch_tokens(lengths_W: np.ndarray, plan: np.ndarray) -> np.ndarray:
    """Sum of the lengths in each batch, in the shape of the plan less its last axis."""
    sums = np.zeros(plan.shape[:-1], np.int64)
    for index in np.moveaxis(plan, -1, 0):  # one column of all batches at a time: memory stays that of one column
        sums += np.where(index == NOTHING, 0, lengths_W[index])
    return sums


def row_tokens(lengths_W: np.ndarray, plans: Iterable[np.ndarray], multiple: int = 128) -> int:
    """T, the tokens of one packed row: the fullest batch of all plans, rounded up to a multiple.

    plans may be a generator over the epochs: one plan is in memory at a time.
    """
    fullest = max((int(batch_tokens(lengths_W, plan).max(initial=0)) for plan in plans), default=0)
    return max(1, -(-fullest // multiple)) * multiple


def _longest_first(lengths_W: np.ndarray) -> np.ndarray:
    """Stable order of falling length."""
    if len(lengths_W) == 0:
        return np.zeros(0, np.int64)
    shortness_W = lengths_W.max() - lengths_W
    # numpy sorts integers of 16 bits by radix: ten million in a second instead of several
    return np.argsort(shortness_W.astype(np.min_scalar_type(shortness_W.max())), kind="stable")


def _split_evenly(
    lengths_W: np.ndarray, windows: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """So many windows, and the rest, which has windows of all lengths: by chance it would often hold many long ones, and
    its batch, the run's fullest, would ask for a longer row."""
    by_length = windows[_longest_first(lengths_W[windows])]
    rest_size = len(windows) - size
    place = np.zeros(0, np.int64)
    if rest_size > 0:  # equally far apart, from a place drawn by chance: each window is as likely to be left
        place = (np.arange(rest_size) * len(windows) + rng.integers(len(windows))) // rest_size
    return np.delete(by_length, place), by_length[place]


def _deal(lengths_W: np.ndarray, windows: np.ndarray, batches: int) -> np.ndarray:
    """(batches, windows per batch), balanced; NOTHING is in the last column, if the windows do not fill it."""
    if len(windows) == 0:
        return np.full((batches, 0), NOTHING, np.int32)
    by_length = windows[_longest_first(lengths_W[windows])]
    by_length = np.pad(by_length, (0, -len(by_length) % batches), constant_values=NOTHING)
    dealt = np.empty((batches, len(by_length) // batches), np.int32)
    tokens = np.zeros(batches, np.int64)
    groups = by_length.reshape(-1, batches)
    length_of_groups = np.where(groups == NOTHING, 0, lengths_W[groups])
    widest_first = np.argsort(length_of_groups[:, -1] - length_of_groups[:, 0], kind="stable")  # narrow ones smooth out
    for column in widest_first:
        emptiest_first = _longest_first(-tokens)
        dealt[emptiest_first, column] = groups[column]
        tokens[emptiest_first] += length_of_groups[column]
    return dealt


def _group(lengths_W: np.ndarray, windows: np.ndarray, step_size: int, steps_per_chunk: int) -> np.ndarray:
    """(steps, step_size): within chunks of so many steps or some more, windows in order of length.

    Chunks, not the whole epoch: else a window would meet the same neighbours in every epoch.
    """
    steps = windows.reshape(-1, step_size).copy()
    for chunk in np.array_split(steps, max(1, len(steps) // steps_per_chunk)):
        flat = chunk.ravel()
        chunk[:] = flat[_longest_first(lengths_W[flat])].reshape(chunk.shape)
    return steps


def _cut(windows: np.ndarray, batches: int) -> np.ndarray:
    """(batches, windows per batch) of neighbours, as even as can be, NOTHING at the end of those that are one short."""
    size_per_batch = len(windows) // batches + (np.arange(batches) < len(windows) % batches)
    begin_per_batch = np.cumsum(size_per_batch) - size_per_batch
    place = np.arange(size_per_batch.max())
    source = np.where(place < size_per_batch[:, None], begin_per_batch[:, None] + place, len(windows))
    return np.append(windows, np.int32(NOTHING))[source]
