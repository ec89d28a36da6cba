"""Documents as text -> their tokens and words. A document is tokenized once, however many questions are asked of it.

The most recently used documents are remembered, up to a number of bytes. Used by one thread at a time.
"""

import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qa_accel.data.window_assembly import TokenizedTexts, offsets_of

REMEMBERED_BYTES = 50_000_000
"""Texts and tokens: some two million tokens of English."""
BYTES_BESIDE = 1000
"""Of each document beside text and tokens: three arrays, and the entry that finds them."""


@dataclass(frozen=True)
class Document:
    """Tokens of one text, tokenized alone and without special tokens. N tokens."""

    ids_N: np.ndarray
    """int32."""
    offset_N2: np.ndarray
    """int32, characters [begin, end) of each token."""
    word_N: np.ndarray
    """int32, the tokenizer's number of the word that each token is part of; -1 for none."""

    @property
    def bytes(self) -> int:
        return self.ids_N.nbytes + self.offset_N2.nbytes + self.word_N.nbytes

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

    def __init__(self, backend: Callable[[], Any], remembered_bytes: int = REMEMBERED_BYTES):
        """`backend`: gives the `tokenizers.Tokenizer`, without truncation and padding."""
        self._backend = backend
        self._remembered_bytes = remembered_bytes
        self._documents: OrderedDict[str, Document] = OrderedDict()
        self._bytes = 0

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
            size = _bytes(text, document)
            if size <= self._remembered_bytes:
                self._documents[text] = document
                self._bytes += size
        while self._bytes > self._remembered_bytes:
            self._bytes -= _bytes(*self._documents.popitem(last=False))


def _bytes(text: str, document: Document) -> int:
    """The text counts too: a million blanks have no token."""
    return sys.getsizeof(text) + document.bytes + BYTES_BESIDE
