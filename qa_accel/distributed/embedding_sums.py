"""DDP's sum of the word embeddings' gradient, without the rows that are zero on every rank.

The table of words is the largest weight of an encoder (a fifth of BERT-base, half of MiniLM, two thirds of XLM-R), its gradient the
last of a backward pass: nothing hides its sum. But the batches of a step look up a small part of its rows, and only these have a
gradient. So DDP leaves the table out. The ranks agree on the rows while the model computes, and sum those after the backward pass.
The result is that of a sum of the whole table: between two processes to the bit, between more the order of a sum may differ.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from qa_accel.distributed import strategy
from qa_accel.distributed.settings import GradientSumsConfig

WIRE = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Of `--ddp_comm_hook`: what passes between ranks."""
MOST_ROWS = 0.75
"""Of the table; with more, gathering them costs what it saves."""


def leave_out(accelerator: Accelerator, model: Any) -> torch.Tensor | None:
    """Call before accelerator.prepare. The weight of the words that DDP will not sum, for `EmbeddingSums`.

    None where it goes on as DDP does: one process, another strategy, a frozen table, a model that may look up more than the batch's
    tokens (it has a decoder, or its code comes with its files), or one whose input embeddings are no plain table.
    """
    if strategy.name(accelerator) != "DDP" or accelerator.num_processes == 1:
        return None
    if model.config.is_encoder_decoder or not type(model).__module__.startswith("transformers."):
        return None
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:  # CANINE has several tables
        return None
    if type(table) is not nn.Embedding or table.sparse or not table.weight.requires_grad:
        return None
    every_name = model.named_parameters(remove_duplicate=False)
    names = [name for name, weight in every_name if weight is table.weight]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
    return table.weight


class EmbeddingSums:
    """Sums the gradient of a weight (V, H) that `leave_out` gave. All ranks must call every method, in the same order.

    V words of the vocabulary, R of them in the batches of a step over all ranks, H numbers for each.
    """

    def __init__(self, weight: torch.Tensor, accelerator: Accelerator, config: GradientSumsConfig, timeout: int):
        """Call after accelerator.prepare. `timeout`: seconds after which a rank stops waiting for the others' tokens."""
        self.weight, self.world, self.wire = weight, accelerator.num_processes, WIRE[config.ddp_comm_hook]
        # tokens are known on the host before the device has them: neither waits for the other
        self._group = torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self._whole: bool | None = None
        torch.distributed.broadcast(weight.detach(), 0)  # as DDP does with the weights that it knows

    def start(self, input_ids: Iterable[torch.Tensor]) -> None:
        """Before the forward passes: the tokens of all of this rank's batches of the step, on the host, of any shape.

        `used_V`, uint8, then says which words the ranks' batches have; it is whole after `finish`.
        """
        self.used_V = torch.zeros(len(self.weight), dtype=torch.uint8)
        for tokens in input_ids:
            self.used_V[tokens.flatten()] = 1
        self._pending: Any = torch.distributed.all_reduce(
            self.used_V, torch.distributed.ReduceOp.MAX, group=self._group, async_op=True
        )

    @torch.no_grad()
    def finish(self) -> None:
        """After the step's last backward pass: the gradient becomes the mean of all ranks' gradients."""
        self._pending.wait()
        if self.weight.grad is None:
            self.weight.grad = torch.zeros_like(self.weight)
        gradient_VH = self.weight.grad
        rows_R = self.used_V.nonzero().flatten()
        if gradient_VH.device.type != "cpu":
            rows_R = rows_R.pin_memory().to(gradient_VH.device, non_blocking=True)
        if self._whole is None:
            self._whole = self._has_other_rows(gradient_VH, rows_R)
        if self._whole or len(rows_R) > MOST_ROWS * len(gradient_VH):
            gradient_VH.copy_(self._mean_(gradient_VH))
        else:
            gradient_VH.index_copy_(0, rows_R, self._mean_(gradient_VH[rows_R]).to(gradient_VH.dtype))

    def _mean_(self, gradient: torch.Tensor) -> torch.Tensor:
        """In place, where that is the precision of the sum. Divided first, as DDP and its hooks do: half precision overflows."""
        sent = gradient.to(self.wire).div_(self.world)
        torch.distributed.all_reduce(sent)
        return sent

    def _has_other_rows(self, gradient_VH: torch.Tensor, rows_R: torch.Tensor) -> bool:
        """Whether any rank's gradient has rows that no batch has as tokens: a model that looks up more than these."""
        other_V = (gradient_VH != 0).any(dim=1)
        other_V[rows_R] = False
        found = other_V.any().to("cpu", torch.uint8)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, group=self._group)
        return bool(found)
