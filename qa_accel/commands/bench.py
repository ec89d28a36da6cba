"""Measure how fast each part runs on this machine; prints one JSON line per measurement."""

import json
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator

from qa_accel.batching import plan
from qa_accel.batching.collate import batch_loader
from qa_accel.batching.mode import choose
from qa_accel.bench import scaling
from qa_accel.bench.engines import Engines, cpu_engines, table
from qa_accel.bench.reader import QUESTIONS, ReaderBench, random_reader
from qa_accel.bench.settings import BenchConfig
from qa_accel.bench.steps import TOKENIZER, StepBench, planned, precision_name, wait
from qa_accel.bench.synthetic import make_model, model_config, random_answers, squad_like_windows
from qa_accel.data.pair_tokenizer import PairTokenizer, one_thread
from qa_accel.data.questions import load_questions
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.splits import Split
from qa_accel.data.window_cache import prepare_windows
from qa_accel.data.windows import GoldSpans
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import allocator, strategy
from qa_accel.evaluation import scoring
from qa_accel.inference import predictor
from qa_accel.inference.compiled import CompiledModel
from qa_accel.inference.postprocess import best_answers
from qa_accel.inference.reader import Reader
from qa_accel.inference.settings import SpanConfig
from qa_accel.models.loading import ModelInputs, load_tokenizer
from qa_accel.models.settings import ModelConfig

PRODUCTS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What a run in this precision multiplies."""
ENGINE_QUESTIONS = 64
"""Of the part `reader`, for each of the engines: a round takes some ten seconds per engine."""


Config = BenchConfig


def run(config: BenchConfig) -> None:
    """Measure, print one JSON line each. One process."""
    if not torch.accelerator.is_available():
        allocator.keep_memory()  # as train.py does
    accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), bfloat16_where_fast=True)
    Bench(config, accelerator).run()


class Bench:
    def __init__(self, config: BenchConfig, accelerator: Accelerator):
        self.config, self.accelerator = config, accelerator
        self.on_cuda = accelerator.device.type == "cuda"
        self.model_config = model_config(config.model)
        self.windows = squad_like_windows(config.windows, self.model_config.vocab_size)
        self.mode = choose(
            config.batching,
            self.model_config,
            **strategy.placement(accelerator),
            training=True,
        )
        self.matmul_rate = 0.0

    def run(self) -> None:
        for part in self.config.parts:
            getattr(self, part)()

    def say(self, part: str, **figures: Any) -> None:
        where = torch.cuda.get_device_name() if self.on_cuda else f"CPU, {torch.get_num_threads()} threads"
        line = {"part": part, "model": self.config.model, "device": where, "torch": torch.__version__, **figures}
        print(json.dumps(line), flush=True)

    def matmul(self) -> None:
        """The device's own rate of matrix products in this run's precision, as the measure of what a step reaches."""
        name = precision_name(self.accelerator)
        if self.on_cuda:
            size = 8192
            product = self.product(size, PRODUCTS[name])
            seconds = self.median_seconds(lambda: [product() for _ in range(5)]) / 5
        else:
            size, seconds = self.host_product(PRODUCTS[name])
        self.matmul_rate = 2 * size**3 / seconds
        self.say("matmul", dtype=name, size=size, tflops=round(self.matmul_rate / 1e12, 6))

    def product(self, size: int, dtype: torch.dtype) -> Callable[[], Any]:
        left, right = (torch.randn(size, size, device=self.accelerator.device, dtype=dtype) for _ in range(2))
        return lambda: left @ right

    def host_product(self, dtype: torch.dtype) -> tuple[int, float]:
        """Size of a product that takes 20 ms or more, and its median seconds; after half a second it is what there is."""
        end = time.perf_counter() + 0.5
        size, seconds = 128, [0.0]
        while seconds[-1] < 0.02 and size < 2048:
            size *= 2
            product = self.product(size, dtype)
            product()
            seconds = [timed(product)]
        while time.perf_counter() < end:
            seconds.append(timed(product))
        return size, statistics.median(seconds)

    def prepare(self) -> None:
        """Questions per CPU second into windows: each text tokenized once, against the tokenizer's pair encoding."""
        with tempfile.TemporaryDirectory() as folder:
            source = DataConfig(train_file=self.config.train_file, cache_dir=folder)
            questions = load_questions(source, "train")
            tokenizer = load_tokenizer(ModelConfig(self.config.tokenizer_name))
            began, began_cpu = time.perf_counter(), cpu_seconds()
            windows = prepare_windows(questions, tokenizer, WindowConfig(), cache_dir=folder)
            seconds, ours_cpu = time.perf_counter() - began, cpu_seconds() - began_cpu
        some = questions.select(range(min(len(questions), 4000)))
        pairs = PairTokenizer(tokenizer, WindowConfig())
        began_cpu = cpu_seconds()
        with one_thread():
            pairs.tokenize_pairs(some["question"][:], some["context"][:], GoldSpans.none())
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
        size = self.config.per_device_train_batch_size
        entries, collate = planned(self.windows, self.mode, make_model(self.model_config), size)
        loader = batch_loader(collate, entries)
        seconds = self.median_seconds(lambda: [None for _ in loader])
        windows = int((entries != plan.NOTHING).sum())
        self.say(
            "input",
            batches="packed" if self.mode.packed else "padded",
            windows_per_second=round(windows / seconds),
            host_ms_per_batch=round(1000 * seconds / len(entries), 3),
        )

    def train(self) -> None:
        precision = self.accelerator.mixed_precision
        config = self.config
        bench = StepBench(
            self.model_config,
            self.windows,
            batch_size=config.per_device_train_batch_size,
            steps=config.steps,
            repeats=config.repeats,
            warmup_steps=config.warmup_steps,
            compile=config.compile,
            baseline_padding=config.baseline_padding,
            matmul_rate=self.matmul_rate,
        )
        ours = bench.ours(self.accelerator, self.mode)
        self.say("train", loop="ours", **ours)
        if not self.config.compare:
            return
        self.accelerator.free_memory()  # it still holds our model and its training state
        for baseline_precision in dict.fromkeys(("no", precision)):
            runtime.forget_accelerator()
            accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), mixed_precision=baseline_precision)
            baseline = bench.baseline(accelerator)
            self.say("train", loop="baseline", **baseline)
            ratio = round(ours["windows_per_second"] / baseline["windows_per_second"], 2)
            self.say("ratio", ours=ours["precision"], baseline=baseline["precision"], windows_per_second=ratio)
        runtime.forget_accelerator()
        self.accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), mixed_precision=precision)

    def predict(self) -> None:
        """Forward passes and the search for the best spans."""
        qa_model = self.mode.set_up(make_model(self.model_config))
        size = self.config.per_device_train_batch_size
        windows = squad_like_windows(size * self.config.steps, self.model_config.vocab_size, seed=1)
        longest = int(windows.lengths_W.max())
        batch_plan, collate = self.mode.evaluation(windows, TOKENIZER, ModelInputs.of(qa_model), size, longest)
        prepared = self.accelerator.prepare_model(qa_model, evaluation_mode=True)
        compiled = self.config.compile.compile == "on"
        if compiled:
            prepared = CompiledModel(prepared.eval(), packed=self.mode.packed)

        def go() -> None:
            predictor.predict_windows(self.accelerator, prepared, collate, batch_plan, SpanConfig())

        seconds = self.median_seconds(go)
        precision = precision_name(self.accelerator)
        self.say("predict", precision=precision, compiled=compiled, windows_per_second=round(len(windows) / seconds, 2))

    def postprocess(self) -> None:
        """Spans, n-best lists and the metric of as many questions as windows, from random candidates, on one core."""
        questions, candidates = random_answers(self.windows)
        config = SpanConfig(null_score_diff_threshold=0.0)

        def go() -> None:
            answers = best_answers(questions, self.windows, candidates, config, version_2_with_negative=True)
            deque(answers.nbest.values(), maxlen=0)  # lists are made when they are read
            split = Split(questions, self.windows)
            scoring.scores_of(answers, split, 0.0, version_2_with_negative=True)

        seconds = self.median_seconds(go)
        self.say("postprocess", questions=len(questions), seconds=round(seconds, 3))

    def reader(self) -> None:
        """One question beside its forward pass, and many, one at a time and at once; against the removed pipeline's way."""
        config = self.config
        if config.reader_model is None:
            reader = random_reader(self.model_config, load_tokenizer(ModelConfig(config.tokenizer_name)))
        else:
            reader = Reader(config.reader_model)
        with tempfile.TemporaryDirectory() as folder:
            questions = load_questions(DataConfig(train_file=config.train_file, cache_dir=folder), "train")
            some = questions[: min(QUESTIONS, config.windows)]
        pairs = list(zip(some["question"], some["context"]))
        rounds = config.steps * config.repeats
        bench = ReaderBench(reader, pairs, warmup=config.warmup_steps, rounds=rounds, repeats=config.repeats)
        for figures in bench.figures():
            self.say("reader", model=config.reader_model or config.model, **figures)
        if config.reader_model is not None and not self.on_cuda:
            self.engines(config.reader_model, pairs)

    def scaling(self) -> None:
        """What many GPUs would reach, from counts of two real processes, the real plan and stated link speeds."""
        size = self.config.per_device_train_batch_size
        _, collate = planned(self.windows, self.mode, make_model(self.model_config), size)
        lines = scaling.figures(self.config.model, self.windows, collate, size, self.config.scaling)
        for line in lines:
            self.say("scaling", **line)
        print(scaling.table(lines), flush=True)

    def engines(self, name: str, pairs: list[tuple[str, str]]) -> None:
        """The same model in torch and in onnxruntime, in each precision of this CPU; JSON and a table."""
        engines = Engines(pairs[:ENGINE_QUESTIONS], rounds=self.config.repeats)
        for engine, load in cpu_engines(name, self.config.onnx_model).items():
            engines.add(engine, load())
        figures = engines.figures()
        self.say("reader", model=name, **figures)
        print(table(figures), flush=True)

    def median_seconds(self, go: Callable[[], Any]) -> float:
        go()
        seconds = []
        for _ in range(self.config.repeats):
            wait()
            began = time.perf_counter()
            go()
            wait()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)


def timed(go: Callable[[], Any]) -> float:
    """Seconds that one call takes on a CPU."""
    began = time.perf_counter()
    go()
    return time.perf_counter() - began


def cpu_seconds() -> float:
    """Of this process, its threads and its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
