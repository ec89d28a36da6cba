"""Documents as text -> their tokens and words. A document is tokenized once, however many questions are asked of it.

The most recently used documents are remembered, up to a number of tokens. Used by one thread at a time.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qa_accel.data.window_assembly import TokenizedTexts, offsets_of

REMEMBERED_TOKENS = 2_000_000
"""16 bytes each, beside the texts: about 40 MB in all."""


@dataclass(frozen=True)
class Document:
    """Tokens of one text, tokenized alone and without special tokens. N tokens."""

    ids_N: np.ndarray
    """int32."""
    offset_N2: np.ndarray
    """int32, characters [begin, end) of each token."""
    word_N: np.ndarray
    """int32, the tokenizer's number of the word that each token is part of; -1 for none."""

    def whole_words(self, start: int, end: int) -> tuple[int, int]:
        """Characters [start, end), widened at both sides to the tokenizer's words. Unchanged where there is no word."""
        begin_N, end_N = self.offset_N2.T
        first = np.flatnonzero((begin_N <= start) & (start < end_N) & (self.word_N >= 0))
        last = np.flatnonzero((begin_N < end) & (self.word_N >= 0))  # its end may come before marks that `end` includes
        if len(first):
            start = min(start, int(begin_N[self.word_N == self.word_N[first[0]]].min()))
        if len(last):
            end = max(end, int(end_N[self.word_N == self.word_N[last[-1]]].max()))
        return start, end


class DocumentTokens:
    """Remembers the tokens of the documents used last."""

    def __init__(self, backend: Callable[[], Any], remembered_tokens: int = REMEMBERED_TOKENS):
        """`backend`: gives the `tokenizers.Tokenizer`, without truncation and padding."""
        self._backend = backend
        self._remembered_tokens = remembered_tokens
        self._documents: OrderedDict[str, Document] = OrderedDict()
        self._tokens = 0

    def __call__(self, texts: list[str]) -> TokenizedTexts:
        """Tokens of distinct texts, one after the other."""
        documents = self.documents(texts)
        offset_N2 = np.concatenate([document.offset_N2 for document in documents])
        return TokenizedTexts(
            np.concatenate([document.ids_N for document in documents]),
            offsets_of(np.array([len(document.ids_N) for document in documents], np.int64)),
            offset_N2[:, 0],
            offset_N2[:, 1],
        )

    def documents(self, texts: list[str]) -> list[Document]:
        """The texts' tokens, in their order; new texts are tokenized together."""
        new = [text for text in dict.fromkeys(texts) if text not in self._documents]
        found = dict(zip(new, self._tokenized(new)))
        for text in texts:
            if text in self._documents:
                self._documents.move_to_end(text)
        documents = [found[text] if text in found else self._documents[text] for text in texts]
        self._remember(found)
        return documents

    def _tokenized(self, texts: list[str]) -> list[Document]:
        encodings = self._backend().encode_batch(texts, add_special_tokens=False) if texts else []
        return [
            Document(
                np.array(encoding.ids, np.int32),
                np.array(encoding.offsets, np.int32).reshape(-1, 2),
                np.array([-1 if word is None else word for word in encoding.word_ids], np.int32),
            )
            for encoding in encodings
        ]

    def _remember(self, found: dict[str, Document]) -> None:
        for text, document in found.items():
            if len(document.ids_N) <= self._remembered_tokens:
                self._documents[text] = document
                self._tokens += len(document.ids_N)
        while self._tokens > self._remembered_tokens:
            _, document = self._documents.popitem(last=False)
            self._tokens -= len(document.ids_N)
