"""A fine-tuned model, or an ensemble of several, in memory that answers questions from Python."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qa_accel.data.settings import WindowConfig
from qa_accel.data.windows import Windows
from qa_accel.inference import ensemble, pipeline_form, reader_models
from qa_accel.inference.answer_lists import Answers, NBestEntry
from qa_accel.inference.call_settings import CallSettings, refuse_unknown
from qa_accel.inference.postprocess import Candidates
from qa_accel.inference.ranking import RankSettings, ranking
from qa_accel.inference.reader_backends import Attention
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
from qa_accel.inference.settings import Backend, SpanConfig
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

    Several models, or the folder that scripts/ensemble.py wrote, answer as one (see `ensemble.py`).
    """

    def __init__(
        self,
        model_name_or_path: str | Path | Sequence[str | Path],
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

        Of an ensemble's folder, `windows` and `spans` are those that its members were tuned with, if they are not given; its
        threshold and calibration are its own. Models in a list are not calibrated together; their threshold is the mean of
        their own, or 0 if one has none.

        Raises ValueError for a model that cannot be used: damaged, without a trained head or a fast tokenizer; for a device or
        type that is not there; and for a list with a model twice, or with an ensemble.
        """
        if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
            raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        if min_confidence is not None and not (isinstance(min_confidence, (int, float)) and 0 <= min_confidence <= 1):
            raise ValueError(f"min_confidence is {shown(min_confidence)}; expected a number from 0 to 1")
        self.min_confidence = min_confidence
        found = reader_models.load(
            model_name_or_path,
            backend,
            windows,
            spans,
            batch_size,
            min_confidence,
            dtype=dtype,
            device=device,
            attn_implementation=attn_implementation,
            compile=compile,
        )
        self.members, self._weights = found.members, found.weights
        self.spans, self.calibration = found.spans, found.calibration
        self.min_answer_score = found.min_answer_score
        self.device, self.batch_size = self.members[0].device, self.members[0].batch_size
        self.windows = max((member.windows for member in self.members), key=lambda each: each.max_seq_length)

    @property
    def qa(self) -> Any:
        """The model with its tokenizer; of several, the first."""
        return self.members[0].qa

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
        windows = [member.call_windows(call) for member in self.members]
        rows, shape = call_inputs(inputs, question, context)
        pairs = (filled_pair(given, row) for row, given in enumerate(rows))
        if shape == "stream":
            return self._stream(pairs, windows, call)
        found = self._called(list(pairs), windows, call)
        return found[0] if shape == "one" else found

    def answer(self, question: str, context: str, *, answers: Literal["any", "all"] = "any") -> dict[str, Any]:
        """The best answer: text ("" for none), start and end in characters of `context`, probability, score, null_odds,
        nbest; of a calibrated model also confidence, and text None where that is below `min_confidence`.

        `answers`: `all` adds `answers`, a list of all answers in the context, the best first and none for "no answer": spans that
        do not overlap, with text, start, end and score, whose score is at least `spans.min_answer_score`, or the model's own.
        """
        return self.answer_all([(question, context)], answers=answers)[0]

    def answer_all(
        self, pairs: Iterable[tuple[str, str] | Mapping[str, Any]], *, answers: Literal["any", "all"] = "any"
    ) -> list[dict[str, Any]]:
        """Answers in the order of `pairs`: (question, context), or mappings with the keys `question` and `context`. `answers`: as of
        `answer`.

        Raises ValueError, with the row, for anything that is not two texts, and for several answers of an ensemble.
        """
        if answers not in ("any", "all"):
            raise ValueError(f"answers is {shown(answers)}; expected any or all")
        if answers == "all" and len(self.members) > 1:
            raise ValueError(
                "answers='all': several answers of an ensemble are not joined; ask one of its models, or leave it out"
            )
        if not is_many(pairs):
            raise ValueError(
                f"{shown(pairs)}: expected a list, or any other iterable, of (question, context) pairs or of mappings with "
                "the keys question and context"
            )
        read = [question_and_context(given, row) for row, given in enumerate(pairs)]
        decided = self._answers(read, several=answers == "all")
        found = []
        for key, text in decided.predictions.items():
            entry = next(entry for entry in decided.nbest[key] if entry["text"] == text)
            answer = {**entry, "null_odds": decided.null_odds[key], "nbest": decided.nbest[key]}
            if key in decided.several:
                answer["answers"] = decided.several[key]
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
            answers = self._answers(pairs)
            nbest, null_odds = list(answers.nbest.values()), list(answers.null_odds.values())
            for row in range(len(chunk)):
                own = slice(row * len(texts), (row + 1) * len(texts))
                listed = [[entry for entry in entries if self._is_sure(entry)] for entries in nbest[own]]
                found.append(ranking(ids, texts, listed, null_odds[own], settings, self.calibration))
        return found if many else found[0]

    def finish(
        self, pairs: Sequence[tuple[str, str]], parts: Sequence[tuple[Windows, Candidates, SpanConfig]]
    ) -> Answers:
        """What comes after the forward passes: answers by row, from the windows, candidates and settings of each member."""
        threshold = self.spans.null_score_diff_threshold or 0.0
        if len(self.members) == 1:
            [model], [(made, candidates, spans)] = self.members, parts
            decides = replace(spans, null_score_diff_threshold=threshold)
            return model.finish(pairs, made, candidates, decides, self.calibration)
        answers = [member.finish(pairs, *part, None) for member, part in zip(self.members, parts, strict=True)]
        return ensemble.join(answers, self._weights, threshold=threshold, calibration=self.calibration)

    def whole_words(self, context: str, places: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
        """Spans of a context, as characters, widened to words; of several tokenizers, as far as all of them agree."""
        known = list(places)
        return pipeline_form.agreed_words([member.maker.whole_words(context, known) for member in self.members])

    def _answers(
        self,
        pairs: list[tuple[str, str]],
        windows: Sequence[WindowConfig] | None = None,
        call: CallSettings | None = None,
        *,
        several: bool = False,
    ) -> Answers:
        """Answers by row. `windows`: of each member, if they are not its own. `several`: list several answers too."""
        if not pairs:
            return Answers({}, {}, {}, {})
        parts = []
        for place, member in enumerate(self.members):
            config = member.windows if windows is None else windows[place]
            spans = member.spans if call is None else call.spans(member.spans)
            if several:
                spans = replace(spans, min_answer_score=self.min_answer_score)
            size = self.batch_size if call is None else call.batch_size
            made = member.prepare(pairs, config)
            parts.append((made, member.candidates(made, spans, size, config.max_seq_length), spans))
        return self.finish(pairs, parts)

    def _is_sure(self, entry: Mapping[str, Any]) -> bool:
        return self.min_confidence is None or entry["confidence"] >= self.min_confidence

    def _stream(
        self, pairs: Iterator[tuple[str, str]], windows: Sequence[WindowConfig], call: CallSettings
    ) -> Iterator[dict[str, Any] | list[dict[str, Any]]]:
        for chunk in chunks(pairs, CHUNK_BATCHES * call.batch_size):
            yield from self._called(chunk, windows, call)

    def _called(self, pairs: list[tuple[str, str]], windows: Sequence[WindowConfig], call: CallSettings) -> list[Any]:
        """A result of the removed pipeline's form for each pair."""
        answers = self._answers(pairs, windows, call)
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
        threshold = self.spans.null_score_diff_threshold or 0.0
        return pipeline_form.results(context, entries, call, threshold, self.whole_words)
