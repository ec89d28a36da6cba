"""Model + windows -> the best spans of every window, on rank 0, in window order.

Batches are fixed by the data alone and ranks take them in turn, so a window meets the same neighbours, and gets the same
logits to the bit, on any number of ranks. The model never computes the plan's fill: only the gathered rows are filled up,
since all ranks must send equally many. Every row travels with its window's index: rank 0 puts it in place by that and
needs no guess about what was added. What is gathered is a few numbers per window, and the other ranks forget it at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel

from qa_accel.batching.collate import Batch, batch_loader
from qa_accel.batching.plan import NOTHING
from qa_accel.data.splits import Split
from qa_accel.distributed import strategy
from qa_accel.inference.candidate_rows import GatheredRows, candidate_rows
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.logit_rounds import LogitRounds
from qa_accel.inference.postprocess import Answers, Candidates, best_answers
from qa_accel.inference.settings import SpanConfig
from qa_accel.inference.window_rows import columns


def answer_split(
    accelerator: Accelerator,
    model: Callable[..., Any],
    split: Split,
    collate: Callable[[np.ndarray], Batch],
    plan: np.ndarray,
    config: SpanConfig,
    *,
    version_2_with_negative: bool,
    calibration: Calibration | None = None,
    done: Callable[[int], None] = lambda batches: None,
    logits: LogitRounds | None = None,
) -> Answers | None:
    """Answers to all questions of the split; None on all ranks but 0. All ranks must call."""
    candidates = predict_windows(accelerator, model, collate, plan, config, done, logits)
    if candidates is None:
        return None
    return best_answers(
        split.questions,
        split.windows,
        candidates,
        config,
        version_2_with_negative=version_2_with_negative,
        calibration=calibration,
    )


@torch.no_grad()
def predict_windows(
    accelerator: Accelerator,
    model: Callable[..., Any],
    collate: Callable[[np.ndarray], Batch],
    plan: np.ndarray,
    config: SpanConfig,
    done: Callable[[int], None] = lambda batches: None,
    logits: LogitRounds | None = None,
) -> Candidates | None:
    """The n best spans and the null score of each window in `plan` (batches, batch_size); None on all ranks but 0.

    `done` is called after each round with the number of batches that all ranks together have finished. `logits`: what
    keeps all logits of each round (`saved_logits.filling`); all ranks give one, or none does.
    """
    world, rank = accelerator.num_processes, accelerator.process_index
    rounds = -(-len(plan) // world)
    own = [row[row != NOTHING] for row in plan[rank::world]]
    if len(own) < rounds and strategy.splits_training(accelerator):
        own.append(np.full(1, NOTHING, plan.dtype))  # its weights are split: no rank can compute without the others
    found = GatheredRows(int(plan.max(initial=-1)) + 1, config) if accelerator.is_main_process else None
    batches = iter(batch_loader(collate, own, pin_memory=accelerator.device.type == "cuda"))
    with _evaluating(accelerator, model) as evaluated:
        for number in range(1, rounds + 1):
            rows_BC = torch.full(
                (plan.shape[1], columns(config)), NOTHING, dtype=torch.int32, device=accelerator.device
            )
            batch = output = None
            if number <= len(own):
                batch = next(batches).to(accelerator.device, non_blocking=True)
                output = evaluated(**batch.inputs)
                rows_BC[: len(batch.index_B)] = candidate_rows(output.start_logits, output.end_logits, batch, config)
            gathered: Any = accelerator.gather(rows_BC)
            if logits is not None:
                logits.gather(accelerator, plan[(number - 1) * world : number * world], batch, output, gathered)
            if found is not None:
                found.put(gathered)
            done(min(number * world, len(plan)))
    return found.candidates() if found is not None else None


@contextmanager
def _evaluating(accelerator: Accelerator, model: Any) -> Iterator[Callable[..., Any]]:
    """What to call in place of a torch model, in evaluation mode and eager; any other callable as it is."""
    if not isinstance(model, torch.nn.Module):
        yield model
        return
    was_training = model.training
    model.eval()
    plain = strategy.unwrapped(accelerator, model)
    compiled = plain._compiled_call_impl is not None
    # DDP's own forward sends buffers between the ranks, and a rank may have no batch
    evaluated = plain if isinstance(model, DistributedDataParallel) else model
    # eager, though the model may be compiled for training: a fused kernel rounds differently
    with torch.compiler.set_stance("force_eager" if compiled else "default"):
        yield evaluated
    model.train(was_training)
