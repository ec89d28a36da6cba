"""Start and end logits of a batch of windows, where the model left them -> each window's n best spans that share no token.

The n best of all spans crowd around the best place: "the Rhine", "Rhine", "Rhine river". Where a question has several answers,
each place counts once: the best span, then the best of those that share no token with it, and so on, exactly as if all spans
were sorted (in the order of `topk_spans.py`) and each that overlaps an earlier one were dropped.

The idea: each start keeps its best end, which it loses only to a span that begins before that end. After each span only the
reach of the starts before it changes, and the best end within any reach is a look-up in a table of maxima over powers of two
(Bender and Farach-Colton 2000, "The LCA problem revisited": the sparse table).
"""

import torch

from qa_accel.inference.topk_spans import LAST, order


def best_spans_apart(
    start_BL: torch.Tensor, end_BL: torch.Tensor, context_BL: torch.Tensor, max_answer_length: int, n_best: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """First and last tokens (int32) and their logits (float32), each (B, n_best), best first; see `best_spans`.

    No two spans of a window share a token. Where a window has fewer such spans the rest is -1, with logits of -inf.
    """
    length = start_BL.shape[1]
    longest = min(max_answer_length, length)
    start_BL = start_BL.detach().float()
    end_BL = end_BL.detach().float().masked_fill(~context_BL, -torch.inf)
    table = _maxima(end_BL, longest)
    position_L = torch.arange(length, device=start_BL.device)
    reach_BL = (length - position_L).clamp(max=longest).expand_as(start_BL)
    free_BL = context_BL.clone()
    further_D = torch.arange(longest, device=start_BL.device)
    found: list[tuple[torch.Tensor, ...]] = []
    for _ in range(min(n_best, length)):
        best_BL = start_BL + _maximum_within(table, reach_BL)
        order_BL = order(best_BL, position_L).masked_fill(~free_BL, LAST)
        start_B1 = order_BL.argmax(1, keepdim=True)
        missing_B1 = order_BL.gather(1, start_B1) == LAST

        # D: the ends of this start. The first of equal scores, which may be one of several logits: sums are rounded.
        end_BD = (start_B1 + further_D).clamp(max=length - 1)
        allowed_BD = (further_D < reach_BL.gather(1, start_B1)) & context_BL.gather(1, end_BD)
        score_BD = start_BL.gather(1, start_B1) + end_BL.gather(1, end_BD)
        end_B1 = start_B1 + order(score_BD, further_D).masked_fill(~allowed_BD, LAST).argmax(1, keepdim=True)

        found.append(
            (
                start_B1.int().masked_fill(missing_B1, -1),
                end_B1.int().masked_fill(missing_B1, -1),
                start_BL.gather(1, start_B1).masked_fill(missing_B1, -torch.inf),
                end_BL.gather(1, end_B1).masked_fill(missing_B1, -torch.inf),
            )
        )
        free_BL = free_BL & ~((position_L >= start_B1) & (position_L <= end_B1) & ~missing_B1)
        before_BL = (position_L < start_B1) & ~missing_B1
        reach_BL = torch.where(before_BL, torch.minimum(reach_BL, start_B1 - position_L), reach_BL)
    missing = n_best - len(found)
    fills = (-1, -1, -torch.inf, -torch.inf)
    first, last, start_logit, end_logit = (
        torch.nn.functional.pad(torch.cat(parts, dim=1), (0, missing), value=fill)
        for parts, fill in zip(zip(*found, strict=True), fills, strict=True)
    )
    return first, last, start_logit, end_logit


def _maxima(x_BL: torch.Tensor, width: int) -> list[torch.Tensor]:
    """Maxima of x[i : i + 1], x[i : i + 2], x[i : i + 4], ... for every i, up to the width."""
    table, reach = [x_BL], 1
    while 2 * reach <= width:
        ahead_BL = torch.nn.functional.pad(table[-1][:, reach:], (0, reach), value=-torch.inf)
        table.append(torch.maximum(table[-1], ahead_BL))
        reach *= 2
    return table


def _maximum_within(table: list[torch.Tensor], reach_BL: torch.Tensor) -> torch.Tensor:
    """Maximum of x[i : i + reach[i]] for every i; each reach is at least 1."""
    length = reach_BL.shape[1]
    position_L = torch.arange(length, device=reach_BL.device)
    result_BL = table[0]
    for power, maxima_BL in enumerate(table[1:], 1):
        # two ranges of this power, from either side, cover every reach below the next power
        other_BL = maxima_BL.gather(1, (position_L + reach_BL - 2**power).clamp(min=0))
        result_BL = torch.where(reach_BL >= 2**power, torch.maximum(maxima_BL, other_BL), result_BL)
    return result_BL
