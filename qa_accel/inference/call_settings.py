"""The removed pipeline's arguments for one call -> settings of windows and spans, with that pipeline's names in messages."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from qa_accel.data.settings import WindowConfig
from qa_accel.inference.settings import SpanConfig
from qa_accel.messages import listed, shown

OLD_NAMES = {
    "topk": "top_k",
    "max_seq_length": "max_seq_len",
    "max_length": "max_seq_len",
    "max_query_length": "max_question_len",
    "max_answer_length": "max_answer_len",
    "questions": "question",
    "contexts": "context",
}
NOT_NEEDED = {
    "padding": "batches are padded to their longest window",
    "num_workers": "texts are prepared in the calling thread",
}


@dataclass(frozen=True)
class CallSettings:
    """Arguments of `Reader.__call__`. Raises ValueError for a value that cannot work, by its name."""

    top_k: int
    doc_stride: int | None
    max_answer_len: int
    max_seq_len: int | None
    max_question_len: int | None
    handle_impossible_answer: bool
    align_to_words: bool
    batch_size: int

    def __post_init__(self):
        for name in ("top_k", "max_answer_len", "max_seq_len", "max_question_len", "doc_stride", "batch_size"):
            value, lowest = getattr(self, name), 0 if name == "doc_stride" else 1
            given = value is not None or name in ("top_k", "max_answer_len", "batch_size")
            if given and (type(value) is not int or value < lowest):
                raise ValueError(f"{name} is {shown(value)}; expected a whole number of at least {lowest}")
        for name in ("handle_impossible_answer", "align_to_words"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {shown(getattr(self, name))}; expected True or False")

    def windows(self, default: WindowConfig, longest: int | None, special_tokens: int) -> WindowConfig:
        """`default` counts for what is not given. `longest`: tokens that the model takes; None: any number."""
        if (self.max_seq_len, self.max_question_len, self.doc_stride) == (None, None, None):
            return default
        length = default.max_seq_length if self.max_seq_len is None else self.max_seq_len
        if longest is not None and length > longest:
            raise ValueError(f"max_seq_len {length} is more than the {longest} positions that the model knows")
        if length < special_tokens + 2:
            raise ValueError(f"max_seq_len {length} has no room for a question and a context")
        if self.max_seq_len is not None:
            default = WindowConfig.of_length(length, special_tokens)
        question = self.max_question_len or default.max_query_length
        stride = default.doc_stride if self.doc_stride is None else self.doc_stride
        room = length - question - special_tokens
        if stride >= room:
            raise ValueError(
                f"doc_stride {stride} must be less than the context's room in a window with the longest question: max_seq_len "
                f"{length} - max_question_len {question} - {special_tokens} special tokens = {room}"
            )
        return WindowConfig(max_seq_length=length, doc_stride=stride, max_query_length=question)

    def spans(self, default: SpanConfig) -> SpanConfig:
        """More spans than are asked for: some become one when they are widened to whole words."""
        most = max(default.n_best_size, 2 * self.top_k + 10 if self.align_to_words else self.top_k)
        return replace(default, n_best_size=min(most, 10_000), max_answer_length=self.max_answer_len)


def refuse_unknown(unknown: dict[str, Any], known: Collection[str]) -> None:
    """Raises ValueError for an argument that a call does not have, with the nearest one."""
    if not unknown:
        return
    name = next(iter(unknown))
    if name in NOT_NEEDED:
        raise ValueError(f"unknown argument {name}: leave it out, {NOT_NEEDED[name]}")
    near = OLD_NAMES.get(name) or next(iter(difflib.get_close_matches(name, known, n=1)), None)
    hint = f"did you mean {near}?" if near else f"there are {listed(known, most=len(known))}"
    raise ValueError(f"unknown argument {name}: {hint}")
