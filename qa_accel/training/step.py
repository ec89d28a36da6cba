"""One optimizer step: forward, backward, clipping, update, over as many batches as are accumulated.

On one CUDA process with packed batches all of it is one CUDA graph. At the sizes of usual encoders the host needs longer to
start the kernels one by one than the device needs to run them; and what is replayed needs no host at all.
"""

import math
from collections.abc import Callable

import torch
from accelerate import Accelerator

from qa_accel.batching.collate import Batch
from qa_accel.distributed import strategy

Result = tuple[torch.Tensor, torch.Tensor]
"""Sum of this rank's window losses, and the gradient's norm before clipping; both still on the device."""


class Step:
    """(batches, windows) -> Result; the weights have moved. `windows` are those of the whole step, over all ranks."""

    WARM_UP = 3
    """Steps before a capture: the compiler has run and the optimizer has its state; they train like any other."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: torch.nn.Module,
        loss_function: Callable[[torch.nn.Module, Batch], torch.Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        max_grad_norm: float,
        capture: bool = False,
    ):
        """max_grad_norm: 0 leaves gradients as they are. capture: as a CUDA graph, for batches of one shape only."""
        self.accelerator, self.model, self.loss_function, self.optimizer = accelerator, model, loss_function, optimizer
        self.max_grad_norm = max_grad_norm or math.inf
        self.capture, self.steps, self.graph, self.recording = capture, 0, None, False
        if capture:
            self.stream = torch.cuda.Stream()
        self.adamw = getattr(optimizer, "optimizer", optimizer)  # without accelerate's wrapper

    def __call__(self, step_batches: list[Batch], *, windows: int) -> Result:
        scale = self.accelerator.num_processes * self.accelerator.gradient_accumulation_steps / windows
        device = self.accelerator.device
        self.steps += 1
        if not self.capture:
            return self._run([batch.to(device, non_blocking=True) for batch in step_batches], scale)
        if self.steps <= self.WARM_UP:
            return self._warm_up([batch.to(device, non_blocking=True) for batch in step_batches], scale)
        if self.graph is None:
            self._capture([batch.to(device) for batch in step_batches])
        return self._replay(step_batches, scale)

    def _run(self, step_batches: list[Batch], scale: float | torch.Tensor) -> Result:
        """The gradient is that of the mean over all windows of the step, however they are spread over ranks and batches:
        accelerate divides by the accumulation and DDP by the ranks, so `scale` multiplies both back.
        """
        accelerator = self.accelerator
        loss_sum, grad_norm = (torch.zeros((), device=accelerator.device) for _ in range(2))
        for batch in step_batches:
            with accelerator.accumulate(self.model):
                loss = self.loss_function(self.model, batch)
                accelerator.backward(loss * scale)
                loss_sum += loss.detach()
                if accelerator.sync_gradients:
                    grad_norm = self._clip()
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
        return loss_sum, grad_norm  # type: ignore[return-value]

    def _clip(self) -> torch.Tensor:
        """The gradients' norm; the update will see them no longer than max_grad_norm."""
        if not self.recording:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
            return strategy.whole_norm(norm)  # type: ignore[return-value]
        # torch's fused AdamW divides by a number on its way, meant for a gradient scaler: no pass over the gradients for it
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        # it reads a float32, whatever the gradients are
        self.adamw.grad_scale = (norm.float() / self.max_grad_norm).clamp(min=1)  # type: ignore[assignment]
        self.adamw.found_inf = torch.zeros((), device=norm.device)  # type: ignore[assignment]
        return norm

    def _warm_up(self, step_batches: list[Batch], scale: float) -> Result:
        """Beside the default stream, as a capture needs it; always on the same one, since each keeps memory of its own."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = self._run(step_batches, scale)
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def _capture(self, static: list[Batch]) -> None:
        """Record a step over these very tensors. Nothing is computed: recording runs no kernel.

        What changes from step to step besides the batches, the scale and each group's learning rate, becomes a number on the
        device; the groups keep theirs for the schedule and for checkpoints.
        """
        groups = self.optimizer.param_groups
        kept = [(group["lr"], group.get("capturable", False)) for group in groups]
        self.static = static
        self.numbers = torch.zeros(1 + len(groups), device=self.accelerator.device)
        for group, rate in zip(groups, self.numbers[1:]):
            group.update(lr=rate, capturable=True)
        graph, self.recording = torch.cuda.CUDAGraph(), True
        try:
            # thread_local: what other threads do on the device is not ours to forbid
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.result = self._run(static, self.numbers[0])
        finally:
            for group, (rate, capturable) in zip(groups, kept):
                group.update(lr=rate, capturable=capturable)
            self.recording = False
        self.graph = graph

    def _replay(self, step_batches: list[Batch], scale: float) -> Result:
        assert self.graph is not None
        numbers = [scale, *(float(group["lr"]) for group in self.optimizer.param_groups)]
        self.numbers.copy_(torch.tensor(numbers), non_blocking=True)
        for static, batch in zip(self.static, step_batches, strict=True):
            static.take(batch)
        self.graph.replay()
        loss_sum, grad_norm = self.result
        return loss_sum.clone(), grad_norm.clone()  # the next replay writes into the same memory
