"""One optimizer step: forward, backward, clipping, update, over as many batches as are accumulated."""

import math

import torch
from accelerate import Accelerator

from qa_accel import batches, strategy
from qa_accel.compiled import LossFunction


def optimizer_step(
    accelerator: Accelerator,
    model: torch.nn.Module,
    loss_function: LossFunction,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    step_batches: list[batches.Batch],
    *,
    windows: int,
    max_grad_norm: float,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sum of this rank's window losses and the gradient's norm before clipping, both still on the device.

    The gradient is that of the mean over all `windows` of the step, however they are spread over ranks and batches:
    accelerate divides by the accumulation and DDP by the ranks, so both are multiplied back.
    """
    scale = accelerator.num_processes * accelerator.gradient_accumulation_steps / windows
    loss_sum = torch.zeros((), device=accelerator.device)
    grad_norm = None
    for batch in step_batches:
        batch = batch.to(accelerator.device, non_blocking=True)
        with accelerator.accumulate(model):
            loss = loss_function(model, batch)
            accelerator.backward(loss * scale)
            loss_sum += loss.detach()
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(model.parameters(), max_grad_norm or math.inf)
                grad_norm = strategy.whole_norm(norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    schedule.step()
    return loss_sum, grad_norm
