"""A fine-tuned model in memory that answers questions from Python."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa_accel.data.window_maker import WindowMaker
from qa_accel.data.windows import WindowConfig, Windows
from qa_accel.inference import reader_backends
from qa_accel.inference.call_settings import CallSettings, refuse_unknown
from qa_accel.inference.postprocess import (
    Answers,
    Candidates,
    NBestEntry,
    SpanConfig,
    best_answers,
    logit_score,
)
from qa_accel.inference.ranking import RankSettings, ranking
from qa_accel.inference.reader_backends import Attention, Backend
from qa_accel.inference.reader_inputs import (
    as_list,
    call_inputs,
    check_text,
    chunks,
    documents_with_ids,
    filled_pair,
    is_many,
    question_and_context,
)
from qa_accel.messages import shown

if TYPE_CHECKING:  # an exported model does without it
    import torch

CHUNK_BATCHES = 4
"""Batches' worth of questions that are read at once from an iterator, so that windows of like length share a batch."""
CALL_ARGUMENTS = (
    "question",
    "context",
    "top_k",
    "doc_stride",
    "max_answer_len",
    "max_seq_len",
    "max_question_len",
    "handle_impossible_answer",
    "align_to_words",
    "batch_size",
)


class Reader:
    """A fine-tuned model in memory that answers questions, one at a time or many at once, from any number of threads.

    >>> reader = Reader("runs/quickstart")
    >>> reader(question="What is the capital of Peru?", context="Lima is the capital of Peru.")["answer"]
    'Lima'
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        *,
        windows: WindowConfig | None = None,
        spans: SpanConfig | None = None,
        batch_size: int | None = None,
        dtype: "str | torch.dtype" = "float32",
        device: "str | int | torch.device | None" = None,
        attn_implementation: Attention = "auto",
        compile: bool = False,
        min_confidence: float | None = None,
        backend: Backend = "torch",
    ):
        """`windows`: 384 tokens that share 128, or fewer where the model takes fewer. `spans`: what an answer is.
        `batch_size`: windows per forward pass; 8 on a CPU, whose caches larger batches outgrow, 2 for the backend onnx, else
        32. `dtype`: of weights and products: float32, bfloat16 or float16. `device`: as torch names it, or a CUDA device's number, -1 for the CPU;
        the best there is if not given. `compile`: torch.compile, which takes a minute at the first questions.
        `min_confidence`, from 0 to 1: answers that are less sure are withheld, as None; the model must be calibrated.
        `backend`: `onnx` for a folder that scripts/export.py wrote, on the CPU and without importing torch.

        Raises ValueError for a model that cannot be used: damaged, without a trained head or a fast tokenizer; and for a
        device or type that is not there.
        """
        if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
            raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        if min_confidence is not None and not (isinstance(min_confidence, (int, float)) and 0 <= min_confidence <= 1):
            raise ValueError(f"min_confidence is {shown(min_confidence)}; expected a number from 0 to 1")
        name = str(model_name_or_path) if isinstance(model_name_or_path, Path) else model_name_or_path
        self.min_confidence = min_confidence
        model = reader_backends.load(
            name,
            backend,
            windows,
            min_confidence,
            dtype=dtype,
            device=device,
            attn_implementation=attn_implementation,
            compile=compile,
        )
        self.qa, self.device, self.calibration = model.qa, model.device, model.calibration
        self.batch_size = batch_size or (2 if backend == "onnx" else 8 if str(self.device) == "cpu" else 32)
        self.windows = model.windows
        self.spans = self.qa.answer_policy.apply(spans or SpanConfig())
        self._maker = WindowMaker(self.qa.tokenizer)
        self._predictor, self._longest = model.predictor, model.longest

    def __call__(
        self,
        *inputs: Any,
        question: str | Sequence[str] | None = None,
        context: str | Sequence[str] | None = None,
        top_k: int = 1,
        doc_stride: int | None = None,
        max_answer_len: int = 15,
        max_seq_len: int | None = None,
        max_question_len: int | None = None,
        handle_impossible_answer: bool = False,
        align_to_words: bool = True,
        batch_size: int | None = None,
        **unknown: Any,
    ) -> Any:
        """The removed pipeline's call: `reader(question=..., context=...)` gives `{"score", "start", "end", "answer"}`.

        Inputs: a question and a context; lists of them, or a list and one context for all; a mapping with the keys
        `question` and `context`, or a list of mappings or pairs; or any other iterable of these, a generator or a data set,
        for which an iterator is returned that reads a few batches ahead.

        `top_k` > 1 gives a list of answers per question, best first. Lengths count tokens: `max_seq_len` of a window,
        `doc_stride` of its overlap with the next, `max_question_len` of the question, which is cut, `max_answer_len` of an
        answer. `handle_impossible_answer`: rank "no answer" too, as `""` at 0, 0, by its null score less the model's
        threshold. `align_to_words`: widen answers to the tokenizer's words. Answers of a calibrated model have `confidence`
        too. Those below `min_confidence` are left out; if none is left, `answer` is None, or the list empty.

        Raises ValueError for empty or missing texts and for arguments that cannot work or that do not exist, KeyError for a
        mapping without a key.
        """
        refuse_unknown(unknown, CALL_ARGUMENTS)
        call = CallSettings(
            top_k,
            doc_stride,
            max_answer_len,
            max_seq_len,
            max_question_len,
            handle_impossible_answer,
            align_to_words,
            self.batch_size if batch_size is None else batch_size,
        )
        special_tokens = self.qa.tokenizer.num_special_tokens_to_add(pair=True)
        windows = call.windows(self.windows, self._longest, special_tokens)
        rows, shape = call_inputs(inputs, question, context)
        pairs = (filled_pair(given, row) for row, given in enumerate(rows))
        if shape == "stream":
            return self._stream(pairs, windows, call)
        found = self._called(list(pairs), windows, call)
        return found[0] if shape == "one" else found

    def answer(self, question: str, context: str) -> dict[str, Any]:
        """The best answer: text ("" for none), start and end in characters of `context`, probability, score, null_odds,
        nbest; of a calibrated model also confidence, and text None where that is below `min_confidence`."""
        return self.answer_all([(question, context)])[0]

    def answer_all(self, pairs: Iterable[tuple[str, str] | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers in the order of `pairs`: (question, context), or mappings with the keys `question` and `context`.

        Raises ValueError, with the row, for anything that is not two texts.
        """
        if not is_many(pairs):
            raise ValueError(
                f"{shown(pairs)}: expected a list, or any other iterable, of (question, context) pairs or of mappings with "
                "the keys question and context"
            )
        read = [question_and_context(given, row) for row, given in enumerate(pairs)]
        answers = self._answers(read, self.windows, self.spans, self.batch_size)
        found = []
        for key, text in answers.predictions.items():
            entry = next(entry for entry in answers.nbest[key] if entry["text"] == text)
            answer = {**entry, "null_odds": answers.null_odds[key], "nbest": answers.nbest[key]}
            found.append(answer if self._is_sure(entry) else answer | {"text": None, "start": 0, "end": 0})
        return found

    def rank(
        self,
        question: str | Sequence[str],
        documents: Iterable[Any] | Mapping[Any, str],
        *,
        top_k: int = 5,
        top_k_per_document: int | None = None,
        remove_overlaps: bool = False,
        merge_equal_texts: bool = False,
        passage_size: int = 240,
    ) -> Any:
        """The best answers to a question over several documents, in one ranking, and whether any of them holds one.

        `documents`: texts, whose ids are then their places; (id, text) pairs; mappings with the keys `id` and `text`; or a
        mapping from id to text. A list of questions gives a list of results. Each document is tokenized once, if all of
        them fit into the memory for some two million tokens.

        Returns `answers`, at most `top_k` and `spans.n_best_size` of a document, best first; `null_odds`, the lowest of all
        documents; and `no_answer_probability`, that none of the documents holds the answer. An answer has `document` (the id), `text`,
        `start` and `end` in characters of that document, `score` and logits as in `answer`, `passage` (at most
        `passage_size` characters around it, from blank to blank) and `passage_start`. Its `confidence`, of a calibrated
        model, is that of the document alone; answers below `min_confidence` are left out.

        `remove_overlaps`: of overlapping spans of a document only the best. `merge_equal_texts`: equal texts, but for case
        and blanks, are one answer, which lists the other places in `also`.

        Raises ValueError, with the place, for what is not text, for an id that comes twice, and for settings that cannot
        work.
        """
        settings = RankSettings(top_k, top_k_per_document, remove_overlaps, merge_equal_texts, passage_size)
        ids, texts = documents_with_ids(documents)
        asked = as_list(question)
        many = isinstance(asked, list)
        questions: list[Any] = asked if many else [asked]
        for row, text in enumerate(questions):
            check_text(text, f"row {row}", "question")
        found = []
        for chunk in chunks(questions, max(1, CHUNK_BATCHES * self.batch_size // max(1, len(texts)))):
            pairs = [(asked, text) for asked in chunk for text in texts]
            answers = self._answers(pairs, self.windows, self.spans, self.batch_size)
            nbest, null_odds = list(answers.nbest.values()), list(answers.null_odds.values())
            for row in range(len(chunk)):
                own = slice(row * len(texts), (row + 1) * len(texts))
                listed = [[entry for entry in entries if self._is_sure(entry)] for entries in nbest[own]]
                found.append(ranking(ids, texts, listed, null_odds[own], settings, self.calibration))
        return found if many else found[0]

    def prepare(self, pairs: Sequence[tuple[str, str]], windows: WindowConfig | None = None) -> Windows:
        """The windows of at least one (question, context), pair after pair: what comes before the forward pass."""
        questions, contexts = [question for question, _ in pairs], [context for _, context in pairs]
        return self._maker.windows(questions, contexts, windows or self.windows)

    def candidates(
        self, made: Windows, spans: SpanConfig, batch_size: int, max_seq_length: int | None = None
    ) -> Candidates:
        """The forward pass: the best spans of each window, also of windows that belong to different calls.

        `max_seq_length`: if the windows were made with other settings than the reader's.
        """
        return self._predictor.candidates(made, spans, batch_size, max_seq_length or self.windows.max_seq_length)

    def finish(
        self, pairs: Sequence[tuple[str, str]], made: Windows, candidates: Candidates, spans: SpanConfig
    ) -> Answers:
        """What comes after the forward pass: answers by row, from all windows of the pairs."""
        table = {"id": [str(row) for row in range(len(pairs))], "context": [context for _, context in pairs]}
        return best_answers(table, made, candidates, spans, version_2_with_negative=True, calibration=self.calibration)

    def _answers(
        self, pairs: list[tuple[str, str]], windows: WindowConfig, spans: SpanConfig, batch_size: int
    ) -> Answers:
        """Answers by row."""
        if not pairs:
            return Answers({}, {}, {}, {})
        made = self.prepare(pairs, windows)
        candidates = self.candidates(made, spans, batch_size, windows.max_seq_length)
        return self.finish(pairs, made, candidates, spans)

    def _is_sure(self, entry: Mapping[str, Any]) -> bool:
        return self.min_confidence is None or entry["confidence"] >= self.min_confidence

    def _stream(
        self, pairs: Iterator[tuple[str, str]], windows: WindowConfig, call: CallSettings
    ) -> Iterator[dict[str, Any] | list[dict[str, Any]]]:
        for chunk in chunks(pairs, CHUNK_BATCHES * call.batch_size):
            yield from self._called(chunk, windows, call)

    def _called(self, pairs: list[tuple[str, str]], windows: WindowConfig, call: CallSettings) -> list[Any]:
        """A result of the removed pipeline's form for each pair."""
        answers = self._answers(pairs, windows, call.spans(self.spans), call.batch_size)
        found = []
        for (_, context), entries in zip(pairs, answers.nbest.values()):
            results = self.results(context, entries, call)
            sure = [result for result in results if self._is_sure(result)]
            if call.top_k == 1:
                found.append(sure[0] if sure else results[0] | {"start": 0, "end": 0, "answer": None})
            else:
                found.append(sure)
        return found

    def results(self, context: str, entries: list[NBestEntry], call: CallSettings) -> list[dict[str, Any]]:
        """The best `call.top_k` entries of an n-best list that differ in place, in the removed pipeline's form.

        Without any span, the empty answer.
        """
        empty = next(entry for entry in entries if entry["end"] == 0)
        spans = [entry for entry in entries if entry is not empty]
        places: Iterable[tuple[int, int]] = ((entry["start"], entry["end"]) for entry in spans)
        if call.align_to_words:
            places = self._maker.whole_words(context, places)
        threshold = self.spans.null_score_diff_threshold or 0.0
        null_score = logit_score(empty)
        results: dict[tuple[int, int], dict[str, Any]] = {}
        for entry, place in zip(spans, places):
            if len(results) == call.top_k:
                break
            if call.handle_impossible_answer and null_score - logit_score(entry) > threshold:
                results.setdefault((0, 0), _result(context, empty, (0, 0)))
            results.setdefault(place, _result(context, entry, place))
        if call.handle_impossible_answer or not results:
            results.setdefault((0, 0), _result(context, empty, (0, 0)))
        return list(results.values())[: call.top_k]


def _result(context: str, entry: NBestEntry, place: tuple[int, int]) -> dict[str, Any]:
    """An entry in the removed pipeline's form."""
    start, end = place
    result: dict[str, Any] = {"score": entry["score"], "start": start, "end": end, "answer": context[start:end]}
    return result | {"confidence": entry["confidence"]} if "confidence" in entry else result
