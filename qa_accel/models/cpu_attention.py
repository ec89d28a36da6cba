"""Attention for training on a CPU: blocks of scores that stay in the cache, and a backward pass that works in the same blocks.

Written as operations on whole batches, attention makes some ten passes over scores (B, heads, L, K) that are far larger than the
caches, most of them into memory that the system first has to map. Here a block of rows and heads goes through all operations
before the next one begins, in buffers that are used again. Products and softmax are torch's and in the order of the plain form,
so results differ from it by rounding alone (but for a query without any key, such as padding: it gets a mean of other values).

B rows, L queries and K keys of a row, d width of a head; P pairs of a row and a head in a block, J keys that they attend to.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch

from qa_accel.models.fast_layers import VALUES, random_words

BLOCK_BYTES = 2 << 20
"""Of the scores of a block: it and two more of this size are in use at once."""

aten: Any = torch.ops.aten


def block_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    dropout: float,
    factor: float,
) -> torch.Tensor:
    """query (B, heads, L, d), key and value (B, heads, K, d), of one dtype -> (B, L, heads, d).

    mask: of each row the keys that each query attends to (bool), or a bias of the scores, which gets no gradient; (B, 1 or heads,
    L, K), each but heads also 1; None: all keys. dropout: probability that a share becomes zero, below 1. factor: of the scores.
    """
    return _BlockAttention.apply(query, key, value, mask, dropout, factor)  # type: ignore[return-value]


def bias(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Mask -> bias of the scores. Half of the lowest number: no sum overflows, so a row without any key gives no NaN."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min / 2)


@dataclass(frozen=True)
class _Block:
    """Some heads of some rows; all heads if there is more than one row."""

    rows: slice
    heads: slice
    keys: slice
    bias: torch.Tensor | None
    """(rows, 1 or heads, L, J), added to the scores; None: every query attends to all J keys."""

    def queries_of(self, x_BhLd: torch.Tensor) -> torch.Tensor:
        """(P, L, d)."""
        return x_BhLd[self.rows, self.heads].flatten(0, 1)

    def keys_of(self, x_BhKd: torch.Tensor) -> torch.Tensor:
        """(P, J, d)."""
        return x_BhKd[self.rows, self.heads, self.keys].flatten(0, 1)


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, mask, dropout, factor):
        heads, L, d = query.shape[1:]
        dropped = round(dropout * VALUES)
        out_BLhd = query.new_empty(len(query), L, heads, d)
        buffers, saved = _Buffers(query.dtype), []
        blocks = _blocks(query, key.shape[2], mask)
        for block in blocks:
            q_PLd, k_PJd, v_PJd = block.queries_of(query) * factor, block.keys_of(key), block.keys_of(value)
            scores_PLJ = buffers.take(0, len(q_PLd), L, k_PJd.shape[1])
            torch.bmm(q_PLd, k_PJd.transpose(1, 2), out=scores_PLJ)
            if block.bias is not None:
                scores_PLJ.unflatten(0, (-1, block.heads.stop - block.heads.start)).add_(block.bias)
            shares_PLJ = torch.softmax(scores_PLJ, -1, out=torch.empty_like(scores_PLJ))
            words = None
            if dropped:
                words = random_words(shares_PLJ.numel())
                used_PLJ = _kept(words, dropped, scores_PLJ).mul_(shares_PLJ)
                v_PJd = v_PJd * _scale(dropped)
            else:
                used_PLJ = shares_PLJ
            result_PLd = torch.bmm(used_PLJ, v_PJd)
            place = out_BLhd[block.rows, :, block.heads]
            place.copy_(result_PLd.unflatten(0, (len(place), -1)).transpose(1, 2))
            saved += [shares_PLJ] if words is None else [shares_PLJ, words]
        ctx.save_for_backward(query, key, value, *saved)
        ctx.blocks = [replace(block, bias=None) for block in blocks]  # the gradient does not depend on it
        ctx.dropped, ctx.factor = dropped, factor
        return out_BLhd

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_BLhd):
        query, key, value, *saved = ctx.saved_tensors
        dropped = ctx.dropped
        saved = iter(saved)
        grads = [_like_projection(x) for x in (query, key, value)]
        grad_q_BhLd, grad_k_BhKd, grad_v_BhKd = grads
        grad_BhLd = grad_BLhd.transpose(1, 2)
        buffers = _Buffers(query.dtype)
        for block in ctx.blocks:
            shares_PLJ = next(saved)
            grad_PLd, v_PJd = block.queries_of(grad_BhLd), block.keys_of(value)
            grad_shares_PLJ = buffers.take(0, *shares_PLJ.shape)
            other_PLJ = buffers.take(1, *shares_PLJ.shape)
            used_PLJ = shares_PLJ
            if dropped:
                grad_PLd, words = grad_PLd * _scale(dropped), next(saved)
            torch.bmm(grad_PLd, v_PJd.transpose(1, 2), out=grad_shares_PLJ)
            if dropped:
                used_PLJ = _kept(words, dropped, other_PLJ)
                grad_shares_PLJ.mul_(used_PLJ)
                used_PLJ.mul_(shares_PLJ)
            _put(grad_v_BhKd, block, block.keys, torch.bmm(used_PLJ.transpose(1, 2), grad_PLd))
            grad_scores_PLJ = aten._softmax_backward_data.out(
                grad_shares_PLJ, shares_PLJ, -1, query.dtype, grad_input=other_PLJ
            )
            grad_q_PLd = torch.bmm(grad_scores_PLJ, block.keys_of(key) * ctx.factor)
            _put(grad_q_BhLd, block, slice(None), grad_q_PLd)
            grad_k_PJd = torch.bmm(grad_scores_PLJ.transpose(1, 2), block.queries_of(query) * ctx.factor)
            _put(grad_k_BhKd, block, block.keys, grad_k_PJd)
        return *grads, None, None, None


class _Buffers:
    """Memory that every block uses again."""

    def __init__(self, dtype: torch.dtype):
        self.dtype, self.by_name = dtype, {}

    def take(self, name: int, *shape: int) -> torch.Tensor:
        """A tensor of this shape, with what the last user of the name left in it."""
        size = prod(shape)
        if name not in self.by_name or len(self.by_name[name]) < size:
            self.by_name[name] = torch.empty(size, dtype=self.dtype)
        return self.by_name[name][:size].view(shape)


def _blocks(query: torch.Tensor, K: int, mask: torch.Tensor | None) -> list[_Block]:
    B, heads, L, _ = query.shape
    bytes_of_head = max(1, L * K * query.element_size())
    rows_at_once = _even_part(B, BLOCK_BYTES // (bytes_of_head * heads))
    heads_at_once = _even_part(heads, BLOCK_BYTES // bytes_of_head)
    seen = None if mask is None else _Seen.of(mask.expand(B, -1, L, K))
    blocks = []
    for row in range(0, B, rows_at_once):
        rows = slice(row, min(row + rows_at_once, B))
        keys, block_bias = (slice(0, K), None) if seen is None else seen.by(rows, query.dtype)
        for head in range(0, heads, heads_at_once):
            own = slice(head, min(head + heads_at_once, heads))
            own_bias = block_bias if block_bias is None or block_bias.shape[1] == 1 else block_bias[:, own]
            blocks.append(_Block(rows, own, keys, own_bias))
    return blocks


def _even_part(count: int, most: int) -> int:
    """Size of the fewest parts of `count` that have at most `most` each, as even as possible; 1 at least."""
    parts = -(-count // max(1, most))
    return max(1, -(-count // max(1, parts)))


@dataclass(frozen=True)
class _Seen:
    """Which keys the queries of each row attend to."""

    mask_BhLK: torch.Tensor
    first_B: list[int]
    last_B: list[int]
    """The key after the last one."""
    whole_B: list[bool]
    """Whether every query attends to all keys from first to last: padding at an end is all that the mask leaves out."""

    @classmethod
    def of(cls, mask_BhLK: torch.Tensor) -> "_Seen":
        B, _, _, K = mask_BhLK.shape
        if mask_BhLK.dtype != torch.bool:
            return cls(mask_BhLK, [0] * B, [K] * B, [False] * B)
        count_BK = mask_BhLK.sum((1, 2))
        seen_BK, full = count_BK > 0, prod(mask_BhLK.shape[1:3])
        place_K = torch.arange(K)
        first_B = torch.where(seen_BK, place_K, K).amin(1)
        last_B = torch.where(seen_BK, place_K + 1, 0).amax(1)
        outside_BK = (place_K < first_B[:, None]) | (place_K >= last_B[:, None])
        whole_B = ((count_BK == full) | outside_BK).all(1) & (first_B < last_B)
        return cls(mask_BhLK, first_B.tolist(), last_B.tolist(), whole_B.tolist())

    def by(self, rows: slice, dtype: torch.dtype) -> tuple[slice, torch.Tensor | None]:
        """Of some rows the keys that any of them attends to, and a bias if that is not all of it."""
        first, last = self.first_B[rows], self.last_B[rows]
        if all(self.whole_B[rows]) and len(set(first)) == len(set(last)) == 1:
            return slice(first[0], last[0]), None
        keys = slice(min(first), max(last))
        if keys.start >= keys.stop:  # nothing is attended to: every key gets an equal share
            keys = slice(0, self.mask_BhLK.shape[-1])
        return keys, bias(self.mask_BhLK[rows, :, :, keys], dtype)


def _put(grad_BhXd: torch.Tensor, block: _Block, places: slice, grad_PXd: torch.Tensor) -> None:
    target = grad_BhXd[block.rows, block.heads, places]
    target.copy_(grad_PXd.view(target.shape))


def _kept(words: torch.Tensor, dropped: int, buffer_PLJ: torch.Tensor) -> torch.Tensor:
    """1 where a share is kept, 0 where it is dropped, in the buffer."""
    bits = words.view(torch.int16)[: buffer_PLJ.numel()].view(buffer_PLJ.shape)
    return torch.ge(bits, dropped - VALUES // 2, out=buffer_PLJ)


def _scale(dropped: int) -> float:
    return VALUES / (VALUES - dropped)


def _like_projection(x_BhLd: torch.Tensor) -> torch.Tensor:
    """Zeros laid out as (B, L, heads, d), as the layer that made x gives it: its gradient needs no copy."""
    return torch.zeros_like(x_BhLd.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
