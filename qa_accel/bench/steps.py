"""Optimizer steps over synthetic windows -> their speed: ours, and the baseline, the loop of the usual scripts."""

import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PretrainedConfig, PreTrainedModel

from qa_accel.batching import mode, plan
from qa_accel.batching.collate import Batch, PaddedCollator, batch_loader
from qa_accel.bench.synthetic import make_model, training_flops
from qa_accel.data.windows import Windows
from qa_accel.distributed import gradient_sums
from qa_accel.distributed.settings import GradientSumsConfig
from qa_accel.models.loading import ModelInputs
from qa_accel.training import optim
from qa_accel.training.compile import LossFunction, graphs_compiled
from qa_accel.training.epochs import EpochPlans
from qa_accel.training.part_settings import CompileConfig, LoopConfig
from qa_accel.training.step import OptimizerStep

TOKENIZER: Any = SimpleNamespace(
    pad_token_id=0, eos_token_id=None, padding_side="right", model_input_names=["input_ids", "token_type_ids"]
)
"""The attributes of a tokenizer that collators read."""


@dataclass
class StepBench:
    """Arguments of both loops."""

    model_config: PretrainedConfig
    windows: Windows
    batch_size: int
    steps: int
    """Of one repeat."""
    repeats: int
    warmup_steps: int
    compile: CompileConfig
    baseline_padding: str
    """Of BenchConfig."""
    matmul_rate: float
    """Of the device, FLOP/s; 0: not measured."""

    def ours(self, accelerator: Accelerator, mode: mode.BatchingMode) -> dict[str, Any]:
        qa_model = mode.set_up(make_model(self.model_config))
        entries, collate = planned(self.windows, mode, qa_model, self.batch_size)
        loss_function = LossFunction(self.compile, accelerator, qa_model, packed=mode.packed)
        settings = optim.OptimConfig()
        prepared, optimizer, embedding_sums = gradient_sums.prepare(
            accelerator, qa_model, optim.make_optimizer(qa_model, settings), GradientSumsConfig(), timeout=600
        )
        schedule = optim.make_schedule(optimizer, settings, 10**6)
        prepared.train()
        capture = loss_function.whole_step
        whole = OptimizerStep(
            accelerator,
            prepared,
            loss_function,
            optimizer,
            max_grad_norm=1.0,
            capture=capture,
            embedding_sums=embedding_sums,
        )

        def step(entry: np.ndarray, batch: Batch) -> None:
            whole([batch], windows=int((entry != plan.NOTHING).sum()))
            schedule.step()

        figures = self._measured(entries, collate, step)
        after_warmup = figures.pop("graphs_after_warmup")
        return {
            "precision": precision_name(accelerator),
            "batches": "packed" if mode.packed else "padded",
            "compile": loss_function.reason,
            "recompilations": loss_function.graphs - after_warmup if loss_function.compiled else 0,
            **figures,
        }

    def baseline(self, accelerator: Accelerator) -> dict[str, Any]:
        """What the usual scripts do: a shuffled order, padded batches, the model's own loss."""
        qa_model = make_model(self.model_config)
        prepared, optimizer = accelerator.prepare(qa_model, torch.optim.AdamW(qa_model.parameters(), lr=3e-5))
        prepared.train()
        whole = self.baseline_padding == "max_length"
        width = int(self.windows.lengths_W.max()) if whole else 1
        collate = PaddedCollator(self.windows, pad_token_id=0, pad_to_multiple_of=width)
        shuffled = np.random.default_rng(0).permutation(len(self.windows))
        size = self.batch_size
        entries = shuffled[: len(shuffled) // size * size].reshape(-1, size)

        def step(entry: np.ndarray, batch: Batch) -> None:
            batch = batch.to(accelerator.device)
            output = prepared(**batch.inputs, start_positions=batch.start_B, end_positions=batch.end_B)
            accelerator.backward(output.loss)
            optimizer.step()
            optimizer.zero_grad()

        figures = self._measured(entries, collate, step)
        figures.pop("graphs_after_warmup")
        batches = f"random order, padded to the longest window of {'all' if whole else 'the batch'}"
        return {"precision": precision_name(accelerator), "batches": batches, **figures}

    def _measured(
        self, entries: np.ndarray, collate: mode.Collator, step: Callable[[np.ndarray, Batch], None]
    ) -> dict[str, Any]:
        """Warm up, then time `repeats` runs of `steps` steps over windows that each run takes from where the last one ended."""
        full = entries[(entries != plan.NOTHING).all(axis=1)]
        on_cuda = torch.cuda.is_available()
        stream = endless(full, collate, pin_memory=on_cuda)
        if on_cuda:
            # before the warm-up: what a captured step uses again in each replay does not count as allocated
            torch.cuda.reset_peak_memory_stats()
        for _ in range(self.warmup_steps):
            step(*next(stream))
        graphs = graphs_compiled()
        lengths_W = self.windows.lengths_W
        seconds, speeds, tokens_per_second, flops, fills = [], [], [], [], []
        for _ in range(self.repeats):
            tokens = computed_tokens = work = 0
            wait()
            began = time.perf_counter()
            for _ in range(self.steps):
                entry, batch = next(stream)
                step(entry, batch)
                tokens += int(lengths_W[entry].sum())
                computed_tokens += mode.computed_tokens(lengths_W, entry[None], collate)
                work += training_flops(self.model_config, lengths_W[entry])
            wait()
            elapsed = time.perf_counter() - began
            seconds.append(elapsed / self.steps)
            speeds.append(self.steps * full.shape[1] / elapsed)
            tokens_per_second.append(tokens / elapsed)
            flops.append(work / elapsed)
            fills.append(tokens / computed_tokens)
        achieved = statistics.median(flops)
        peak = (
            torch.cuda.max_memory_allocated() if on_cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        return {
            "windows_per_step": full.shape[1],
            "windows_per_second": round(statistics.median(speeds), 2),
            "tokens_per_second": round(statistics.median(tokens_per_second), 1),
            "fill": round(statistics.median(fills), 4),
            "ms_per_step": round(1000 * statistics.median(seconds), 2),
            "tflops": round(achieved / 1e12, 4),
            "share_of_matmul_rate": round(achieved / self.matmul_rate, 3) if self.matmul_rate else None,
            "peak_memory_gib": round(peak / 2**30, 2),
            "graphs_after_warmup": graphs,
        }


def planned(
    windows: Windows, mode: mode.BatchingMode, qa_model: PreTrainedModel, batch_size: int
) -> tuple[np.ndarray, mode.Collator]:
    """(batches, batch_size) of one epoch of training, and their collator."""
    epochs = EpochPlans(
        LoopConfig(per_device_train_batch_size=batch_size),
        windows.lengths_W,
        seed=0,
        world_size=1,
        packed=mode.packed,
    )
    epoch_plan, longest = epochs.plan(0), int(windows.lengths_W.max())
    collate = mode.collator(windows, TOKENIZER, ModelInputs.of(qa_model), [epoch_plan], longest)
    return plan.rank_batches(epoch_plan, 0), collate


def endless(entries: np.ndarray, collate: mode.Collator, *, pin_memory: bool) -> Iterator[tuple[np.ndarray, Batch]]:
    while True:
        yield from zip(entries, batch_loader(collate, entries, pin_memory=pin_memory))


def precision_name(accelerator: Accelerator) -> str:
    return "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision


def wait() -> None:
    """Wait until the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
