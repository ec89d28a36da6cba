"""One model in several engines, on the same windows in turn -> milliseconds a window, alone and in batches, beside the rate of
this core's matrix products and the removed pipeline's way.

A window's time is that of its forward pass and the search for its best spans, in batches of windows of like length. The
pipeline's way is a window at a time, or batches in the order of arrival, and includes its tokenizer.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from qa_accel.bench.reader import PipelineWay, medians
from qa_accel.bench.synthetic import training_flops
from qa_accel.data.window_maker import WindowMaker
from qa_accel.distributed.precision import cpu_has_units
from qa_accel.inference import reader_backends
from qa_accel.inference.reader_backends import ReaderModel
from qa_accel.inference.settings import SpanConfig
from qa_accel.training.compile import graphs_compiled

PRODUCT = 1024
"""Rows and columns of the product whose rate is the core's."""
BATCH = 8
PIPELINE = "removed pipeline"


class Engines:
    def __init__(self, pairs: Sequence[tuple[str, str]], *, rounds: int):
        """`rounds`: how often each engine computes all windows, alone and in batches; medians are given. The first that is
        added is what the others are compared with, and all must have its windows."""
        self.pairs, self.rounds = list(pairs), rounds
        self.models: dict[str, ReaderModel] = {}
        self.extra: dict[str, dict[str, Any]] = {}

    def add(self, name: str, model: ReaderModel) -> None:
        """Its windows once, alone and in batches: compilers and allocators do their work here. Keeps what that took."""
        if not self.models:
            questions, contexts = [question for question, _ in self.pairs], [context for _, context in self.pairs]
            self.windows = WindowMaker(model.qa.tokenizer).windows(questions, contexts, model.windows)
            self.length = model.windows.max_seq_length
        self.models[name] = model
        graphs, began = graphs_compiled(), time.process_time()
        for size in (BATCH, 1):
            self._pass(model, size)
        self.extra[name] = {
            "first_pass_cpu_s": round(time.process_time() - began, 2),
            "graphs_compiled": graphs_compiled() - graphs,
        }

    def figures(self) -> dict[str, Any]:
        """The first engine's model must be one of torch."""
        left, right = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT)
        first = next(iter(self.models))
        qa: Any = self.models[first].qa
        pipeline = PipelineWay(self.models[first])
        ways: list[Callable[[], Any]] = [lambda: left @ right]
        for model in self.models.values():
            ways += [lambda model=model: self._pass(model, 1), lambda model=model: self._pass(model, BATCH)]
        ways += [lambda: pipeline.answer_all(self.pairs, 1), lambda: pipeline.answer_all(self.pairs, BATCH)]
        product, *spent = medians(ways, self.rounds)
        rate = 2 * PRODUCT**3 / product.cpu_seconds
        operations = training_flops(qa.inputs.config, self.windows.lengths_W) / 3  # forward only
        engines: list[dict[str, Any]] = []
        for place, name in enumerate([*self.models, PIPELINE]):
            own: dict[str, Any] = {"engine": name}
            for number, way in enumerate(("alone", "in_batches")):
                passed, compared = spent[2 * place + number], spent[number]
                own[f"ms_{way}"] = round(1000 * passed.seconds / len(self.windows), 2)
                own[f"cpu_ms_{way}"] = round(1000 * passed.cpu_seconds / len(self.windows), 2)
                own[f"ratio_{way}"] = round(compared.cpu_seconds / passed.cpu_seconds, 2)
                own[f"share_of_matmul_rate_{way}"] = round(operations / passed.cpu_seconds / rate, 2)
            engines.append(own | self.extra.get(name, {}))
        return {
            "windows": len(self.windows),
            "tokens_per_window": round(float(self.windows.lengths_W.mean()), 1),
            "batch_size": BATCH,
            "gflop_per_window": round(operations / len(self.windows) / 1e9, 3),
            "matmul_gflops": round(rate / 1e9, 1),
            "compared_with": first,
            "engines": engines,
        }

    def _pass(self, model: ReaderModel, size: int) -> None:
        model.predictor.candidates(self.windows, SpanConfig(), size, self.length)


def cpu_engines(name: str, folders: Sequence[str]) -> dict[str, Callable[[], ReaderModel]]:
    """What this CPU offers for a model: torch in fp32, in bf16 where there is hardware for it, and compiled; and exported
    folders, named by their precision. Each is loaded when it is called. Raises ValueError for what cannot be loaded."""

    def load(place: str, backend: str = "torch", **options: Any) -> ReaderModel:
        defaults: dict[str, Any] = {
            "dtype": "float32",
            "device": "cpu",
            "attn_implementation": "auto",
            "compile": False,
        }
        return reader_backends.load(place, backend, None, None, **defaults | options)

    found: dict[str, Callable[[], ReaderModel]] = {"torch fp32": lambda: load(name)}
    if cpu_has_units():
        found["torch bf16"] = lambda: load(name, dtype="bfloat16")
    found["torch fp32 compiled"] = lambda: load(name, compile=True)
    for folder in folders:
        exported = load(folder, "onnx")
        qa: Any = exported.qa
        label = f"onnx {qa.session.facts.precision}"
        if label in found:
            label = f"{label} {folder}"
        found[label] = lambda exported=exported: exported
    return found


def table(figures: dict[str, Any]) -> str:
    """The same for people, in CPU time."""
    lines = [
        f"{figures['windows']} windows of {figures['tokens_per_window']} tokens, {figures['gflop_per_window']} GFLOP each; one "
        f"core's products of {PRODUCT} x {PRODUCT} in fp32: {figures['matmul_gflops']} GFLOP/s",
        f"{'engine':<24}{'ms alone':>10}{'ratio':>8}{'of rate':>9}{f'ms by {BATCH}':>11}{'ratio':>8}{'of rate':>9}",
    ]
    for own in figures["engines"]:
        cells = "".join(
            f"{own[f'cpu_ms_{way}']:>{width}}{own[f'ratio_{way}']:>8}{own[f'share_of_matmul_rate_{way}']:>9}"
            for way, width in (("alone", 10), ("in_batches", 11))
        )
        lines.append(f"{own['engine']:<24}{cells}")
    return "\n".join(lines)
