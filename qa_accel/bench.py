"""A model's shape and windows -> how fast each part runs on this machine, one JSON line per measurement.

Each figure is the median over repeats after a warm-up. With `compare` the plain manner (random order, padding to each
batch's longest window, eager, torch's default AdamW) runs in the same process, so that a ratio does not depend on the
machine. Models are made from a config with random weights: nothing is downloaded, and speed does not ask what is learned.
"""

import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from qa_accel import batches, batching, compiled, data, evaluation, model, optim, plan, predict, runtime, spans
from qa_accel.assemble import Gold
from qa_accel.batching import BatchingConfig
from qa_accel.compiled import CompileConfig
from qa_accel.order import LoopConfig, Order
from qa_accel.pairs import PairTokenizer, one_thread
from qa_accel.prepare import Split
from qa_accel.step import Step
from qa_accel.synthetic import (
    ModelName,
    made_up_answers,
    make_model,
    model_config,
    squad_like_windows,
    training_flops,
)
from qa_accel.windows import WindowConfig, prepare_windows

TOKENIZER: Any = SimpleNamespace(
    pad_token_id=0, eos_token_id=None, padding_side="right", model_input_names=["input_ids", "token_type_ids"]
)
"""What collators ask of a tokenizer."""
Part = Literal["matmul", "prepare", "input", "train", "predict", "postprocess"]


@dataclass(frozen=True)
class BenchConfig:
    model: ModelName = "bert-base"
    """Which shape, with random weights."""
    train_file: tuple[str, ...] = ("quickstart/train.json.gz",)
    """Questions for the part `prepare`."""
    tokenizer_name: str = "quickstart/encoder"
    """Tokenizer for the part `prepare`."""
    windows: int = 4096
    """Windows with lengths drawn like SQuAD's, and random tokens."""
    per_device_train_batch_size: int = 32
    """Windows per step in training and per forward pass in prediction."""
    steps: int = 20
    """Steps of one repeat."""
    repeats: int = 3
    """Repeats after the warm-up; the median is printed."""
    warmup_steps: int = 5
    """Steps that are not counted: compilation, first allocations."""
    compare: bool = False
    """Run the plain manner too, in fp32 and in this run's precision, and print the ratios."""
    parts: tuple[Part, ...] = ("matmul", "prepare", "input", "train", "predict", "postprocess")
    """What to measure."""
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    compile: CompileConfig = field(default_factory=CompileConfig)


def run(config: BenchConfig) -> None:
    """Measure, print one JSON line each. One process."""
    accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), bfloat16_where_fast=True)
    Bench(config, accelerator).run()


class Bench:
    def __init__(self, config: BenchConfig, accelerator: Accelerator):
        self.config, self.accelerator = config, accelerator
        self.on_cuda = accelerator.device.type == "cuda"
        self.model_config = model_config(config.model)
        self.windows = squad_like_windows(config.windows, self.model_config.vocab_size)
        self.manner = batching.choose(config.batching, accelerator, self.model_config, training=True)
        self.matmul_rate = 0.0

    def run(self) -> None:
        for part in self.config.parts:
            getattr(self, part)()

    def say(self, part: str, **figures: Any) -> None:
        where = torch.cuda.get_device_name() if self.on_cuda else f"CPU, {torch.get_num_threads()} threads"
        line = {"part": part, "model": self.config.model, "device": where, "torch": torch.__version__, **figures}
        print(json.dumps(line), flush=True)

    def matmul(self) -> None:
        """The device's own rate of bf16 matrix products, as the measure of what a step reaches."""
        size = 8192 if self.on_cuda else 2048
        left, right = (torch.randn(size, size, device=self.accelerator.device, dtype=torch.bfloat16) for _ in range(2))
        seconds = self.median_seconds(lambda: [left @ right for _ in range(5)]) / 5
        self.matmul_rate = 2 * size**3 / seconds
        self.say("matmul", dtype="bf16", size=size, tflops=round(self.matmul_rate / 1e12, 3))

    def prepare(self) -> None:
        """Questions per CPU second into windows: each text tokenized once, against the tokenizer's pair encoding."""
        with tempfile.TemporaryDirectory() as folder:
            source = data.DataConfig(train_file=self.config.train_file, cache_dir=folder)
            questions = data.load_questions(source, "train")
            tokenizer = model.load_tokenizer(model.ModelConfig(self.config.tokenizer_name))
            began, began_cpu = time.perf_counter(), cpu_seconds()
            windows = prepare_windows(questions, tokenizer, WindowConfig(), cache_dir=folder)
            seconds, ours_cpu = time.perf_counter() - began, cpu_seconds() - began_cpu
        some = questions.select(range(min(len(questions), 4000)))
        pairs = PairTokenizer(tokenizer, WindowConfig())
        none = Gold(*np.zeros((2, len(some)), np.int64))
        began_cpu = cpu_seconds()
        with one_thread():
            pairs.plain(some["question"][:], some["context"][:], none)
        ours, plain = len(questions) / ours_cpu, len(some) / (cpu_seconds() - began_cpu)
        self.say(
            "prepare",
            questions=len(questions),
            windows=len(windows),
            seconds=round(seconds, 2),
            questions_per_cpu_second=round(ours),
            plain_questions_per_cpu_second=round(plain),
            ratio=round(ours / plain, 2),
        )

    def input(self) -> None:
        """Batches put together on one core, with no model to wait for."""
        entries, collate = self.planned(make_model(self.model_config))
        loader = batches.batch_loader(collate, entries)
        seconds = self.median_seconds(lambda: [None for _ in loader])
        windows = int((entries != plan.NOTHING).sum())
        self.say(
            "input",
            batches="packed" if self.manner.packed else "padded",
            windows_per_second=round(windows / seconds),
            host_ms_per_batch=round(1000 * seconds / len(entries), 3),
        )

    def train(self) -> None:
        precision = self.accelerator.mixed_precision
        ours = self.measured_training(self.accelerator, self.manner)
        self.say("train", manner="ours", **ours)
        if not self.config.compare:
            return
        for plain_precision in dict.fromkeys(("no", precision)):
            runtime.forget_accelerator()
            accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), mixed_precision=plain_precision)
            plain = self.measured_plain_training(accelerator)
            self.say("train", manner="plain", **plain)
            ratio = round(ours["windows_per_second"] / plain["windows_per_second"], 2)
            self.say("ratio", ours=ours["precision"], plain=plain["precision"], windows_per_second=ratio)
        runtime.forget_accelerator()
        self.accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), mixed_precision=precision)

    def measured_training(self, accelerator: Accelerator, manner: batching.Batching) -> dict[str, Any]:
        qa_model = manner.set_up(make_model(self.model_config))
        entries, collate = self.planned(qa_model)
        loss_function = compiled.LossFunction(self.config.compile, accelerator, qa_model, packed=manner.packed)
        settings = optim.OptimConfig()
        prepared, optimizer = accelerator.prepare(qa_model, optim.make_optimizer(qa_model, settings))
        schedule = optim.make_schedule(optimizer, settings, 10**6)
        prepared.train()

        whole = Step(
            accelerator, prepared, loss_function, optimizer, max_grad_norm=1.0, capture=loss_function.whole_step
        )

        def step(entry: np.ndarray, batch: batches.Batch) -> None:
            whole([batch], windows=int((entry != plan.NOTHING).sum()))
            schedule.step()

        figures = self.measured_steps(entries, collate, step)
        after_warmup = figures.pop("graphs_after_warmup")
        return {
            "precision": precision_name(accelerator),
            "batches": "packed" if manner.packed else "padded",
            "compile": loss_function.reason,
            "recompilations": loss_function.graphs - after_warmup if loss_function.compiled else 0,
            **figures,
        }

    def measured_plain_training(self, accelerator: Accelerator) -> dict[str, Any]:
        """What the usual scripts do: a shuffled order, batches padded to their longest window, the model's own loss."""
        qa_model = make_model(self.model_config)
        prepared, optimizer = accelerator.prepare(qa_model, torch.optim.AdamW(qa_model.parameters(), lr=3e-5))
        prepared.train()
        collate = batches.PaddedCollator(self.windows, pad_token_id=0, pad_to_multiple_of=1)
        shuffled = np.random.default_rng(0).permutation(len(self.windows))
        size = self.config.per_device_train_batch_size
        entries = shuffled[: len(shuffled) // size * size].reshape(-1, size)

        def step(entry: np.ndarray, batch: batches.Batch) -> None:
            batch = batch.to(accelerator.device)
            output = prepared(**batch.inputs, start_positions=batch.start_B, end_positions=batch.end_B)
            accelerator.backward(output.loss)
            optimizer.step()
            optimizer.zero_grad()

        figures = self.measured_steps(entries, collate, step)
        figures.pop("graphs_after_warmup")
        return {"precision": precision_name(accelerator), "batches": "padded, random order", **figures}

    def measured_steps(
        self, entries: np.ndarray, collate: batching.Collator, step: Callable[[np.ndarray, batches.Batch], None]
    ) -> dict[str, Any]:
        """Warm up, then time `repeats` runs of `steps` steps over windows that each run takes from where the last one ended."""
        full = entries[(entries != plan.NOTHING).all(axis=1)]
        stream = endless(full, collate, pin_memory=self.on_cuda)
        if (
            self.on_cuda
        ):  # before the warm-up: what a captured step reuses from replay to replay does not count as allocated
            torch.cuda.reset_peak_memory_stats()
        for _ in range(self.config.warmup_steps):
            step(*next(stream))
        graphs = compiled.graphs_compiled()
        lengths_W = self.windows.lengths_W
        seconds, speeds, tokens_per_second, flops, fills = [], [], [], [], []
        for _ in range(self.config.repeats):
            tokens = slots = work = 0
            self.wait()
            began = time.perf_counter()
            for _ in range(self.config.steps):
                entry, batch = next(stream)
                step(entry, batch)
                tokens += int(lengths_W[entry].sum())
                slots += batching.slots(lengths_W, entry[None], collate)
                work += training_flops(self.model_config, lengths_W[entry])
            self.wait()
            elapsed = time.perf_counter() - began
            seconds.append(elapsed / self.config.steps)
            speeds.append(self.config.steps * full.shape[1] / elapsed)
            tokens_per_second.append(tokens / elapsed)
            flops.append(work / elapsed)
            fills.append(tokens / slots)
        achieved = statistics.median(flops)
        peak = (
            torch.cuda.max_memory_allocated()
            if self.on_cuda
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
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

    def predict(self) -> None:
        """Forward passes and the search for the best spans."""
        qa_model = self.manner.set_up(make_model(self.model_config))
        size = self.config.per_device_train_batch_size
        windows = squad_like_windows(size * self.config.steps, self.model_config.vocab_size, seed=1)
        longest = int(windows.lengths_W.max())
        batch_plan, collate = self.manner.evaluation(windows, TOKENIZER, qa_model, size, longest)
        prepared = self.accelerator.prepare_model(qa_model, evaluation_mode=True)

        def go() -> None:
            predict.window_candidates(self.accelerator, prepared, collate, batch_plan, spans.SpanConfig())

        seconds = self.median_seconds(go)
        precision = precision_name(self.accelerator)
        self.say("predict", precision=precision, windows_per_second=round(len(windows) / seconds, 2))

    def postprocess(self) -> None:
        """Spans, n-best lists and the metric of as many questions as windows, from random candidates, on one core."""
        questions, candidates = made_up_answers(self.windows)
        config = spans.SpanConfig(null_score_diff_threshold=0.0)

        def go() -> None:
            answers = spans.best_answers(questions, self.windows, candidates, config, version_2_with_negative=True)
            split = Split(questions, self.windows)
            evaluation.scores_of(answers, split, 0.0, version_2_with_negative=True)

        seconds = self.median_seconds(go)
        self.say("postprocess", questions=len(questions), seconds=round(seconds, 3))

    def planned(self, qa_model: PreTrainedModel) -> tuple[np.ndarray, batching.Collator]:
        """(batches, batch_size) of one epoch of training, and their collator."""
        loop = LoopConfig(per_device_train_batch_size=self.config.per_device_train_batch_size)
        order = Order(loop, self.windows.lengths_W, seed=0, world_size=1, packed=self.manner.packed)
        epoch_plan, longest = order.plan(0), int(self.windows.lengths_W.max())
        collate = self.manner.collator(self.windows, TOKENIZER, qa_model, [epoch_plan], longest)
        return plan.rank_batches(epoch_plan, 0), collate

    def median_seconds(self, go: Callable[[], Any]) -> float:
        go()
        seconds = []
        for _ in range(self.config.repeats):
            self.wait()
            began = time.perf_counter()
            go()
            self.wait()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.on_cuda:
            torch.cuda.synchronize()


def endless(
    entries: np.ndarray, collate: batching.Collator, *, pin_memory: bool
) -> Iterator[tuple[np.ndarray, batches.Batch]]:
    while True:
        yield from zip(entries, batches.batch_loader(collate, entries, pin_memory=pin_memory))


def precision_name(accelerator: Accelerator) -> str:
    return "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision


def cpu_seconds() -> float:
    """Of this process, its threads and its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
