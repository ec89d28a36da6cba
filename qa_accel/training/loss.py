"""Model and batch -> the terms of the training loss, by name. Their sum is what is trained.

Each term is a sum over the windows of the batch, its weight included, so that the caller divides by the windows of the whole
step, over all ranks and micro-batches. The metrics show each of them.
"""

import operator
from functools import reduce

import torch
import torch.nn.functional as F

from qa_accel.batching.collate import Batch, window_logits
from qa_accel.training.part_settings import Distillation


def loss_parts(
    model: torch.nn.Module, batch: Batch, distillation: Distillation | None = None
) -> dict[str, torch.Tensor]:
    """Name of each term -> its sum over the windows of the batch. With `distillation` batches have a teacher's logits."""
    output = model(**batch.inputs)
    start_BL, end_BL, _ = window_logits(output.start_logits, output.end_logits, batch)
    span = _of_labels(start_BL, end_BL, batch)
    if distillation is None:
        return {"span": span}
    imitation = _of_teacher(start_BL, end_BL, batch, distillation.temperature)
    return {"span": (1 - distillation.weight) * span, "distillation": distillation.weight * imitation}


def total(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum of the terms; a single one is returned as it is."""
    return reduce(operator.add, parts.values())


def span_loss(start_logits: torch.Tensor, end_logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum over the windows of weight * (cross-entropy of the start + of the end) / 2, each over its own window's tokens.

    Where windows have several answers, the start's cross-entropy is -log of the summed probability of all starts, and so is
    the end's (the summed objective of Clark and Gardner, arXiv:1710.10723). It says which places are right, not how the
    probability is shared between them. Of one answer it is the usual cross-entropy, to the bit.
    """
    start_BL, end_BL, _ = window_logits(start_logits, end_logits, batch)
    return _of_labels(start_BL, end_BL, batch)


def _of_labels(start_BL: torch.Tensor, end_BL: torch.Tensor, batch: Batch) -> torch.Tensor:
    if batch.gold_start_BL is None or batch.gold_end_BL is None:
        start_loss_B = F.cross_entropy(start_BL, batch.start_B, reduction="none")
        end_loss_B = F.cross_entropy(end_BL, batch.end_B, reduction="none")
    else:
        start_loss_B = _of_any_place(start_BL, batch.gold_start_BL)
        end_loss_B = _of_any_place(end_BL, batch.gold_end_BL)
    return (batch.weight_B * (start_loss_B + end_loss_B) / 2).sum()


def _of_any_place(logits_BL: torch.Tensor, gold_BL: torch.Tensor) -> torch.Tensor:
    """-log of the summed probability of the gold places of each window, (B,); each has at least one."""
    # the softmax first: of one place its logarithm is then taken as it is, as cross_entropy does
    lowest = torch.finfo(torch.float32).min
    return -logits_BL.log_softmax(dim=1).masked_fill(~gold_BL, lowest).logsumexp(dim=1)


def distillation_loss(
    start_logits: torch.Tensor, end_logits: torch.Tensor, batch: Batch, temperature: float
) -> torch.Tensor:
    """Sum over the windows of weight * T^2 * (KL(teacher || student) of the start + of the end) / 2, at temperature T.

    Both are distributions over the places where an answer, or "no answer", may be. T^2 keeps the size of the gradient, which
    shrinks with 1 / T^2 (Hinton et al., arXiv:1503.02531, section 2).
    """
    start_BL, end_BL, _ = window_logits(start_logits, end_logits, batch)
    return _of_teacher(start_BL, end_BL, batch, temperature)


def _of_teacher(start_BL: torch.Tensor, end_BL: torch.Tensor, batch: Batch, temperature: float) -> torch.Tensor:
    assert batch.teacher_start_BL is not None and batch.teacher_end_BL is not None, "batches carry a teacher's logits"
    places_BL = batch.context_BL.scatter(1, batch.null_B[:, None], True)
    start_B = _divergence(batch.teacher_start_BL, start_BL, places_BL, temperature)
    end_B = _divergence(batch.teacher_end_BL, end_BL, places_BL, temperature)
    return temperature**2 * (batch.weight_B * (start_B + end_B) / 2).sum()


def _divergence(
    teacher_BL: torch.Tensor, student_BL: torch.Tensor, places_BL: torch.Tensor, temperature: float
) -> torch.Tensor:
    """KL(teacher || student) of each window, at a temperature, over its places. Other columns have no part in it."""
    lowest = torch.finfo(torch.float32).min
    teacher_BL, student_BL = (
        (logits_BL / temperature).masked_fill(~places_BL, lowest).log_softmax(dim=1)
        for logits_BL in (teacher_BL, student_BL)
    )
    # elsewhere both logarithms are about -3e38: their difference is left out, since 0 times an overflow is not a number
    difference_BL = (teacher_BL - student_BL).masked_fill(~places_BL, 0.0)
    return (teacher_BL.exp() * difference_BL).sum(dim=1)
