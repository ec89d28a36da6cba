"""One optimizer step: forward, backward, clipping, update, over as many batches as are accumulated.

On one CUDA process with packed batches the whole step is one CUDA graph. At the sizes of usual encoders the host takes longer
to launch the kernels one by one than the device takes to run them; a replay launches all of them at once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from qa_accel.batching.collate import Batch
from qa_accel.distributed import strategy
from qa_accel.distributed.embedding_sums import EmbeddingSums
from qa_accel.training import loss


@dataclass(frozen=True)
class StepResult:
    """Numbers of one optimizer step of this rank; the tensors are on the device."""

    loss_parts: dict[str, torch.Tensor]
    """Name of each term of the loss -> its sum over this rank's windows."""
    grad_norm: torch.Tensor
    """The gradient's norm before clipping."""

    @property
    def loss_sum(self) -> torch.Tensor:
        return loss.total(self.loss_parts)


class OptimizerStep:
    """(batches, windows) -> StepResult, and an update of the weights. `windows`: of the whole step, over all ranks."""

    WARM_UP = 3
    """Steps before a capture: the compiler has run and the optimizer has its state; they train like any other."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: torch.nn.Module,
        loss_function: Callable[[torch.nn.Module, Batch], dict[str, torch.Tensor]],
        optimizer: torch.optim.Optimizer,
        *,
        max_grad_norm: float,
        capture: bool = False,
        embedding_sums: EmbeddingSums | None = None,
    ):
        """max_grad_norm: 0 turns clipping off. capture: as a CUDA graph, for batches of one shape only. embedding_sums: for a
        model of which DDP leaves the word embeddings out."""
        self.accelerator, self.model, self.loss_function, self.optimizer = accelerator, model, loss_function, optimizer
        self.max_grad_norm = max_grad_norm or math.inf
        self.capture, self.calls, self.graph, self.recording = capture, 0, None, False
        if capture:
            self.stream = torch.cuda.Stream()
        self.embedding_sums = embedding_sums
        self.adamw = getattr(optimizer, "optimizer", optimizer)  # without accelerate's wrapper

    def __call__(self, step_batches: list[Batch], *, windows: int) -> StepResult:
        scale = self.accelerator.num_processes * self.accelerator.gradient_accumulation_steps / windows
        device = self.accelerator.device
        self.calls += 1
        if self.embedding_sums is not None:
            self.embedding_sums.start([batch.tokens for batch in step_batches])
        if not self.capture:
            return self._run([batch.to(device, non_blocking=True) for batch in step_batches], scale)
        if self.calls <= self.WARM_UP:
            return self._warm_up([batch.to(device, non_blocking=True) for batch in step_batches], scale)
        if self.graph is None:
            self._capture([batch.to(device) for batch in step_batches])
        return self._replay(step_batches, scale)

    def _run(self, step_batches: list[Batch], scale: float | torch.Tensor) -> StepResult:
        """The gradient is that of the mean over all windows of the step, for any split into ranks and batches: accelerate
        divides by the accumulation steps and DDP by the ranks, so `scale` contains both as factors.
        """
        accelerator = self.accelerator
        sums: dict[str, torch.Tensor] = {}
        grad_norm = torch.zeros((), device=accelerator.device)
        for batch in step_batches:
            with accelerator.accumulate(self.model):
                parts = self.loss_function(self.model, batch)
                accelerator.backward(loss.total(parts) * scale)
                for name, part in parts.items():
                    if name not in sums:
                        sums[name] = torch.zeros((), device=accelerator.device)
                    sums[name] += part.detach()
                if accelerator.sync_gradients:
                    if self.embedding_sums is not None:
                        self.embedding_sums.finish()
                    grad_norm = self._clip()
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
        return StepResult(sums, grad_norm)

    def _clip(self) -> torch.Tensor:
        """Returns the gradients' norm; the update uses gradients whose norm is at most max_grad_norm."""
        if not self.recording:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
            return strategy.full_norm(norm)  # type: ignore[return-value]
        # torch's fused AdamW divides gradients by a number, meant for a gradient scaler: it saves a pass over the gradients
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        # AdamW reads it as float32, for gradients of any type
        self.adamw.grad_scale = (norm.float() / self.max_grad_norm).clamp(min=1)  # type: ignore[assignment]
        self.adamw.found_inf = torch.zeros((), device=norm.device)  # type: ignore[assignment]
        return norm

    def _warm_up(self, step_batches: list[Batch], scale: float) -> StepResult:
        """On a side stream, as a capture requires; always the same one, since each stream keeps separate memory."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = self._run(step_batches, scale)
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def _capture(self, static: list[Batch]) -> None:
        """Records a step over these tensors. Recording runs no kernel.

        The scale and the learning rate of each group change from step to step, so they become numbers on the device; the
        groups keep plain numbers for the schedule and for checkpoints.
        """
        groups = self.optimizer.param_groups
        kept = [(group["lr"], group.get("capturable", False)) for group in groups]
        self.static = static
        self.numbers = torch.zeros(1 + len(groups), device=self.accelerator.device)
        for group, rate in zip(groups, self.numbers[1:]):
            group.update(lr=rate, capturable=True)
        graph, self.recording = torch.cuda.CUDAGraph(), True
        try:
            # thread_local: other threads may use the device during the capture
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.result = self._run(static, self.numbers[0])
        finally:
            for group, (rate, capturable) in zip(groups, kept):
                group.update(lr=rate, capturable=capturable)
            self.recording = False
        self.graph = graph

    def _replay(self, step_batches: list[Batch], scale: float) -> StepResult:
        assert self.graph is not None
        numbers = [scale, *(float(group["lr"]) for group in self.optimizer.param_groups)]
        self.numbers.copy_(torch.tensor(numbers), non_blocking=True)
        for static, batch in zip(self.static, step_batches, strict=True):
            static.copy_from(batch)
        self.graph.replay()
        # clones: the next replay writes into the same memory
        parts = {name: part.clone() for name, part in self.result.loss_parts.items()}
        return StepResult(parts, self.result.grad_norm.clone())
