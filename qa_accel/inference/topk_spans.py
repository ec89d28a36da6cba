"""Start and end logits of a batch of windows, where the model left them -> each window's n best spans, exactly.

Only these leave the device: what is gathered per window does not grow with the window's length. Allowed are all pairs
of a start and an end in the context whose span has at most so many tokens, not only those of the best starts and ends.

Order: higher score (start + end logit, float32) first; among equal scores the earlier start, then the earlier end. It is
a total order, so a window's result depends neither on the rest of the batch nor on the padding on either side.

The idea: give each start its best end. The n best spans begin at n best of these starts, since any other start has n
spans ahead of all its own. A running maximum finds these starts, and only their spans are sorted.
"""

import torch

LAST = torch.iinfo(torch.int64).min


def best_spans(
    start_BL: torch.Tensor, end_BL: torch.Tensor, context_BL: torch.Tensor, max_answer_length: int, n_best: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """First and last tokens (int32) and their logits (float32), each (B, n_best), best first.

    context_BL is True where a token may be part of an answer. Where a window has fewer spans the rest is -1, with logits
    of -inf. No value is read back to the host and shapes follow from shapes alone. A score that is not a number comes
    first, so that it is not overlooked.
    """
    length = start_BL.shape[1]
    longest = min(max_answer_length, length)
    starts = min(n_best, length)
    found = min(n_best, starts * longest)
    start_BL = start_BL.detach().float()
    end_BL = end_BL.detach().float().masked_fill(~context_BL, -torch.inf)

    best_BL = start_BL + _maximum_ahead(end_BL, longest)
    position_L = torch.arange(length, device=start_BL.device)
    start_BS = order(best_BL, position_L).masked_fill(~context_BL, LAST).topk(starts).indices

    # P: every span that begins at one of these starts
    further_D = torch.arange(longest, device=start_BL.device)
    start_BP = start_BS.repeat_interleave(longest, dim=1)
    end_BP = start_BP + further_D.repeat(starts)
    rank_BP = start_BP * longest + further_D.repeat(starts)
    inside_BP = end_BP < length
    end_BP = end_BP.clamp(max=length - 1)
    allowed_BP = inside_BP & context_BL.gather(1, start_BP) & context_BL.gather(1, end_BP)
    start_logit_BP, end_logit_BP = start_BL.gather(1, start_BP), end_BL.gather(1, end_BP)
    order_BP = order(start_logit_BP + end_logit_BP, rank_BP).masked_fill(~allowed_BP, LAST)

    best_BK = order_BP.topk(found).indices
    missing_BK = ~allowed_BP.gather(1, best_BK)

    def chosen(x_BP: torch.Tensor, otherwise: float) -> torch.Tensor:
        x_BK = x_BP.gather(1, best_BK).masked_fill(missing_BK, otherwise)
        return torch.nn.functional.pad(x_BK, (0, n_best - found), value=otherwise)

    return (
        chosen(start_BP.int(), -1),
        chosen(end_BP.int(), -1),
        chosen(start_logit_BP, -torch.inf),
        chosen(end_logit_BP, -torch.inf),
    )


def _maximum_ahead(x_BL: torch.Tensor, width: int) -> torch.Tensor:
    """Maximum of x[i : i + width] for every i: reaches of 1, 2, 4, ... are joined, in log2(width) steps."""
    reach = 1
    while reach < width:
        step = min(reach, width - reach)
        x_BL = torch.maximum(x_BL, torch.nn.functional.pad(x_BL[:, step:], (0, step), value=-torch.inf))
        reach += step
    return x_BL


def order(score: torch.Tensor, rank: torch.Tensor) -> torch.Tensor:
    """int64 that is greater for a higher score and, among equal scores, for a lower rank (0 <= rank < 2^32).

    No two are equal: `topk` takes any of equal values, and not the same ones on each device and for each shape.
    """
    score = torch.where(score == 0, 0.0, score)  # -0.0 equals 0.0, but its bits do not
    bits = score.view(torch.int32)
    # Bits of floats order as integers do, but for negative floats, where they run backwards.
    ascending = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    ascending = torch.where(torch.isnan(score), 0x7FFFFFFF, ascending)
    return (ascending.long() << 32) + (0xFFFFFFFF - rank)
