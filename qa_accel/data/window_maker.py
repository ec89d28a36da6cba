"""Questions and contexts as text -> windows, from any number of threads, with other window settings in each call.

Tokenizers keep truncation as a state of their own, so one thread tokenizes at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from threading import Lock

from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel.data.document_tokens import DocumentTokens
from qa_accel.data.pair_tokenizer import PairTokenizer
from qa_accel.data.settings import WindowConfig
from qa_accel.data.windows import GoldSpans, Windows, end_of_character


class WindowMaker:
    """Windows without labels; contexts that were used before are not tokenized again."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._pairs = PairTokenizer(tokenizer, WindowConfig())
        self._documents = DocumentTokens(lambda: self._pairs.backend)
        self._lock = Lock()
        self._pairs.compose_if_equal([], [])  # else every question is tokenized together with its context
        self._pairs.context_tokens = self._documents

    def windows(self, questions: Sequence[str], contexts: Sequence[str], config: WindowConfig) -> Windows:
        """Windows of at least one pair, pair after pair."""
        none, form = GoldSpans.none(), self._pairs.form
        with self._lock:
            if form is None:
                return self._pairs.tokenize_pairs(questions, contexts, none, config)
            return self._pairs.compose_windows(questions, contexts, none, form, config)

    def whole_words(self, context: str, places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Characters [start, end) of a context, each widened to the tokenizer's words, without the blanks that some
        tokenizers count among a word's characters, and with the marks of its last character that others do not count."""
        with self._lock:
            [document] = self._documents.documents([context])
        for place in places:
            start, end = document.whole_words(*place)
            text = context[start : end_of_character(context, end)]
            start += len(text) - len(text.lstrip())
            yield start, start + len(text.strip())
