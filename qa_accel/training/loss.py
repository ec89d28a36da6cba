"""Model and batch -> the terms of the training loss, by name. Their sum is what is trained.

Each term is a sum over the windows of the batch, so that the caller divides by the windows of the whole step, over all ranks
and micro-batches. A further term is one more entry in `loss_parts`; the metrics then show each of them.
"""

import operator
from functools import reduce

import torch
import torch.nn.functional as F

from qa_accel.batching.collate import Batch, window_logits


def loss_parts(model: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """Name of each term -> its sum over the windows of the batch."""
    output = model(**batch.inputs)
    return {"span": span_loss(output.start_logits, output.end_logits, batch)}


def total(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum of the terms; a single one is returned as it is."""
    return reduce(operator.add, parts.values())


def span_loss(start_logits: torch.Tensor, end_logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum over the windows of weight * (cross-entropy of the start + of the end) / 2, each over its own window's tokens."""
    start_BL, end_BL, _ = window_logits(start_logits, end_logits, batch)
    start_loss_B = F.cross_entropy(start_BL, batch.start_B, reduction="none")
    end_loss_B = F.cross_entropy(end_BL, batch.end_B, reduction="none")
    return (batch.weight_B * (start_loss_B + end_loss_B) / 2).sum()
