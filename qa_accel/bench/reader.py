"""A `Reader` on questions about texts -> what one question costs beside its forward pass, and how many a second it answers.

The removed pipeline's way is measured on the same questions in the same run: every window on its own, or in batches in the
order of arrival, encoded with its question by the tokenizer, and decoded with numpy from the outer product of the
probabilities of all starts and ends.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from qa_accel.bench.steps import wait
from qa_accel.bench.synthetic import make_model
from qa_accel.inference.reader import Reader
from qa_accel.inference.reader_backends import ReaderModel
from qa_accel.models.loading import available_positions, quiet

QUESTIONS = 200
"""Asked at once, and one at a time."""
SHORT_CONTEXT = 40
"""Words of the context of the question whose forward pass is timed alone."""
WINDOW, OVERLAP, LONGEST_ANSWER = 384, 128, 15
"""The removed pipeline's defaults, in tokens."""

Pair = tuple[str, str]
"""Question and context."""


def random_reader(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Reader:
    """A reader of this shape with random weights, in fp32. Raises ValueError if the tokenizer has too many ids for it."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        make_model(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return Reader(folder)


class ReaderBench:
    def __init__(self, reader: Reader, pairs: list[Pair], *, warmup: int, rounds: int, repeats: int):
        """`rounds`: how often one question is asked, after `warmup` that do not count; `repeats`: how often all of them are.
        Medians are given."""
        self.reader, self.pairs = reader, pairs[:QUESTIONS]
        qa: Any = reader.qa
        self.model = qa.model
        self.warmup, self.rounds, self.repeats = warmup, rounds, repeats

    def figures(self) -> Iterator[dict[str, Any]]:
        """One measurement after the other: of one question, of many."""
        yield self.one_question()
        yield self.many_questions()

    def one_question(self) -> dict[str, Any]:
        """Milliseconds of a short question through the reader and of the model alone on the tensors that the reader gave it."""
        question, context = self.pairs[0]
        context = " ".join(context.split()[:SHORT_CONTEXT])
        inputs = self._inputs_of(lambda: self._ask(question, context))
        model = self.model

        def forward() -> None:
            with torch.inference_mode():
                model(**inputs)

        ways = [lambda: self._ask(question, context), forward]
        for _ in range(self.warmup):
            self._ask(question, context)
        asked, passed = medians(ways, self.rounds)
        return {
            "questions": 1,
            "tokens": inputs["input_ids"].numel(),
            "reader_ms": round(1000 * asked.seconds, 3),
            "forward_ms": round(1000 * passed.seconds, 3),
            "ratio": round(asked.seconds / passed.seconds, 2),
            "cpu_ratio": round(asked.cpu_seconds / passed.cpu_seconds, 2),
        }

    def many_questions(self) -> dict[str, Any]:
        """Questions a second, and how many the reader answers while the removed pipeline answers one, by both clocks."""
        size = self.reader.batch_size
        pipeline = PipelineWay(self.reader)
        ways: dict[str, Callable[[], Any]] = {
            "at_once": lambda: self.reader(
                question=[question for question, _ in self.pairs], context=[context for _, context in self.pairs]
            ),
            "one_at_a_time": lambda: [self._ask(*pair) for pair in self.pairs],
            "pipeline": lambda: [pipeline.answer(*pair) for pair in self.pairs],
            "pipeline_in_batches": lambda: pipeline.answer_all(self.pairs, size),
        }
        spent = dict(zip(ways, medians(list(ways.values()), self.repeats), strict=True))
        figures = {f"{name}_per_second": round(len(self.pairs) / own.seconds, 2) for name, own in spent.items()}
        for name, other in (("one_at_a_time", "pipeline"), ("at_once", "pipeline_in_batches"), ("at_once", "pipeline")):
            pair = spent[other], spent[name]
            figures[f"{name}_to_{other}"] = round(pair[0].seconds / pair[1].seconds, 2)
            figures[f"{name}_to_{other}_cpu"] = round(pair[0].cpu_seconds / pair[1].cpu_seconds, 2)
        return {"questions": len(self.pairs), "batch_size": size, **figures}

    def _ask(self, question: str, context: str) -> Any:
        return self.reader(question=question, context=context)

    def _inputs_of(self, ask: Callable[[], Any]) -> dict[str, Any]:
        """What the reader gives to its model for a question of one window."""
        seen: list[dict[str, Any]] = []
        hook = self.model.register_forward_pre_hook(
            lambda module, arguments, named: seen.append(named), with_kwargs=True
        )
        try:
            ask()
        finally:
            hook.remove()
        [inputs] = seen
        return inputs


class PipelineWay:
    """One answer per question, as transformers' removed pipeline computed it with its defaults."""

    def __init__(self, reader: Reader | ReaderModel):
        """Its model is one of torch."""
        qa: Any = reader.qa
        self.tokenizer, self.model = qa.tokenizer, qa.model
        self.window = min(WINDOW, available_positions(qa.inputs.config) or WINDOW)

    def answer(self, question: str, context: str) -> dict[str, Any]:
        return self.answer_all([(question, context)], 1)[0]

    def answer_all(self, pairs: list[Pair], batch_size: int) -> list[dict[str, Any]]:
        """Windows go through the model `batch_size` at a time, in the order of arrival, padded to the longest of them."""
        windows = [window for row, pair in enumerate(pairs) for window in self._windows(row, *pair)]
        found: list[list[tuple[float, int, int]]] = [[] for _ in pairs]
        for first in range(0, len(windows), batch_size):
            batch = windows[first : first + batch_size]
            padded = self.tokenizer.pad([inputs for _, _, inputs in batch], return_tensors="pt")
            with torch.no_grad():
                output = self.model(**padded.to(self.model.device))
            columns = output.start_logits.float().cpu().numpy(), output.end_logits.float().cpu().numpy()
            for (row, encoding, _), start_L, end_L in zip(batch, *columns):
                found[row].append(best_span(encoding, start_L, end_L))
        answers = []
        for (_, context), spans in zip(pairs, found):
            score, start, end = max(spans)
            answers.append({"score": score, "start": start, "end": end, "answer": context[start:end]})
        return answers

    def _windows(self, row: int, question: str, context: str) -> Iterator[tuple[int, Any, dict[str, list[int]]]]:
        encoded = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=self.window,
            stride=min(OVERLAP, self.window // 2),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        names = [name for name in self.tokenizer.model_input_names if name in encoded]
        for number, encoding in enumerate(encoded.encodings or ()):
            yield row, encoding, {name: encoded[name][number] for name in names}


def best_span(encoding: Any, start_L: np.ndarray, end_L: np.ndarray) -> tuple[float, int, int]:
    """Score, first and last character of a window's best span, from a softmax over its context and its first token."""
    length = len(encoding.ids)
    allowed_L = np.array([text == 1 for text in encoding.sequence_ids])
    allowed_L[0] = True  # "no answer" is part of the softmax
    start_L, end_L = (softmax(np.where(allowed_L, logits[:length], -1e4)) for logits in (start_L, end_L))
    start_L[0] = end_L[0] = 0.0
    score_LL = np.tril(np.triu(np.outer(start_L, end_L)), LONGEST_ANSWER - 1)
    first, last = np.unravel_index(score_LL.argmax(), score_LL.shape)
    return float(score_LL[first, last]), encoding.offsets[first][0], encoding.offsets[last][1]


def softmax(x_L: np.ndarray) -> np.ndarray:
    weight_L = np.exp(x_L - x_L.max())
    return weight_L / weight_L.sum()


@dataclass(frozen=True)
class Spent:
    """Medians over the calls of one way."""

    seconds: float
    cpu_seconds: float
    """Of this process: it depends less on what else the machine does."""


def medians(ways: list[Callable[[], Any]], rounds: int) -> list[Spent]:
    """What each way takes; they take turns, so that all meet the same machine."""
    spent: list[list[tuple[float, float]]] = [[] for _ in ways]
    for _ in range(rounds):
        for go, own in zip(ways, spent):
            wait()
            began, began_cpu = time.perf_counter(), time.process_time()
            go()
            wait()
            own.append((time.perf_counter() - began, time.process_time() - began_cpu))
    return [Spent(*(statistics.median(column) for column in zip(*own))) for own in spent]
