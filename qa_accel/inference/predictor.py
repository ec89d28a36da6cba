"""Model + windows -> the best spans of every window, on rank 0, in window order.

Batches are fixed by the data alone and ranks take them in turn, so a window meets the same neighbours, and gets the same
logits to the bit, on any number of ranks. The model never computes the plan's fill: only the gathered rows are filled up,
since all ranks must send equally many. Every row travels with its window's index: rank 0 puts it in place by that and
needs no guess about what was added. What is gathered is a few numbers per window, and the other ranks forget it at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel

from qa_accel.batching.collate import Batch, batch_loader, window_logits
from qa_accel.batching.plan import NOTHING
from qa_accel.data.splits import Split
from qa_accel.distributed import strategy
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.postprocess import Answers, Candidates, SpanConfig, best_answers
from qa_accel.inference.topk_spans import best_spans
from qa_accel.ranges import COUNT, check_ranges


@dataclass(frozen=True)
class PredictorConfig:
    per_device_eval_batch_size: int = 32
    """Windows per process and forward pass in evaluation and prediction."""

    def __post_init__(self):
        check_ranges(self, per_device_eval_batch_size=COUNT)


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
) -> Answers | None:
    """Answers to all questions of the split; None on all ranks but 0. All ranks must call."""
    candidates = predict_windows(accelerator, model, collate, plan, config, done)
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
) -> Candidates | None:
    """The n best spans and the null score of each window in `plan` (batches, batch_size); None on all ranks but 0.

    `done` is called after each round with the number of batches that all ranks together have finished.
    """
    world, rank = accelerator.num_processes, accelerator.process_index
    rounds = -(-len(plan) // world)
    own = [row[row != NOTHING] for row in plan[rank::world]]
    if len(own) < rounds and strategy.splits_training(accelerator):
        own.append(np.full(1, NOTHING, plan.dtype))  # its weights are split: no rank can compute without the others
    found = _GatheredRows(int(plan.max(initial=-1)) + 1, config) if accelerator.is_main_process else None
    batches = iter(batch_loader(collate, own, pin_memory=accelerator.device.type == "cuda"))
    with _evaluating(accelerator, model) as evaluated:
        for number in range(1, rounds + 1):
            rows_BC = torch.full(
                (plan.shape[1], _columns(config)), NOTHING, dtype=torch.int32, device=accelerator.device
            )
            if number <= len(own):
                batch = next(batches).to(accelerator.device, non_blocking=True)
                output = evaluated(**batch.inputs)
                rows_BC[: len(batch.index_B)] = _rows(output.start_logits, output.end_logits, batch, config)
            rows_BC = accelerator.gather(rows_BC)
            if found is not None:
                found.put(rows_BC)  # type: ignore[arg-type]
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
    plain: Any = accelerator.unwrap_model(model)
    compiled = plain._compiled_call_impl is not None
    # DDP's own forward sends buffers between the ranks, and a rank may have no batch
    evaluated = plain if isinstance(model, DistributedDataParallel) else model
    # eager, though the model may be compiled for training: a fused kernel rounds differently
    with torch.compiler.set_stance("force_eager" if compiled else "default"):
        yield evaluated
    model.train(was_training)


def _columns(config: SpanConfig) -> int:
    """Numbers per gathered row."""
    return 5 + 4 * config.n_best_size


def _rows(start_logits: torch.Tensor, end_logits: torch.Tensor, batch: Batch, config: SpanConfig) -> torch.Tensor:
    """(B, 5 + 4 K) int32, one gather for all: window index, logits of the null position, normalisers of start and end, and
    of each span start, end and their logits.

    Floats travel as their 32 bits. Positions count from the window's first token.
    """
    start_BL, end_BL, _ = window_logits(start_logits, end_logits, batch)
    null_B1 = batch.null_B[:, None]
    places_BL = batch.context_BL.scatter(1, null_B1, True)  # where an answer, or "no answer", may be
    lowest = torch.finfo(torch.float32).min
    lse_B1, end_lse_B1 = (
        logits_BL.masked_fill(~places_BL, lowest).logsumexp(1, keepdim=True) for logits_BL in (start_BL, end_BL)
    )
    start_BK, end_BK, start_logit_BK, end_logit_BK = best_spans(
        start_BL, end_BL, batch.context_BL, config.max_answer_length, config.n_best_size
    )
    shift_B1 = batch.shift_B[:, None]
    columns = [
        batch.index_B[:, None].int(),
        *(
            column.contiguous().view(torch.int32)
            for column in (start_BL.gather(1, null_B1), end_BL.gather(1, null_B1), lse_B1, end_lse_B1)
        ),
        torch.where(start_BK < 0, -1, start_BK - shift_B1).int(),
        torch.where(end_BK < 0, -1, end_BK - shift_B1).int(),
        start_logit_BK.contiguous().view(torch.int32),
        end_logit_BK.contiguous().view(torch.int32),
    ]
    return torch.cat(columns, dim=1)


class _GatheredRows:
    """Rows of all windows in place; allocated once, on rank 0."""

    def __init__(self, windows: int, config: SpanConfig):
        self.rows_WC = np.zeros((windows, _columns(config)), np.int32)
        self.present_W = np.zeros(windows, bool)

    def put(self, rows_BC: torch.Tensor) -> None:
        rows = rows_BC.cpu().numpy()
        rows = rows[rows[:, 0] != NOTHING]
        self.rows_WC[rows[:, 0]] = rows
        self.present_W[rows[:, 0]] = True

    def candidates(self) -> Candidates:
        assert self.present_W.all(), "every window of the plan came back"
        rows = self.rows_WC
        start, end, start_logit, end_logit = np.split(rows[:, 5:], 4, axis=1)
        return Candidates(
            *np.ascontiguousarray(rows[:, 1:5].T).view(np.float32),
            start_WK=start,
            end_WK=end,
            start_logit_WK=np.ascontiguousarray(start_logit).view(np.float32),
            end_logit_WK=np.ascontiguousarray(end_logit).view(np.float32),
        )
