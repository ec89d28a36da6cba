"""Documents that are asked of many times: tokenized once, in bounded memory, with the tokenizer's own words."""

from typing import Any

import numpy as np
import pytest
from toy_tokenizers import roberta, wordpiece

from qa_accel.data.document_tokens import DocumentTokens

TEXTS = ["Ana Müller wrote it in Zürich.", "", "Björk's unbelievable café, 3,000 copies!", "東京はどこ"]


class Counted:
    """A tokenizer that counts the texts it is given."""

    def __init__(self, core: Any):
        self.core, self.texts = core, []

    def encode_batch(self, texts: list[str], add_special_tokens: bool) -> list[Any]:
        self.texts += texts
        return self.core.encode_batch(texts, add_special_tokens=add_special_tokens)


def counted(remembered_bytes: int = 100_000) -> tuple[Counted, DocumentTokens]:
    core = Counted(wordpiece().backend_tokenizer)
    return core, DocumentTokens(lambda: core, remembered_bytes)


def test_tokens_are_those_of_each_text_alone_and_each_text_is_tokenized_once():
    """Breaks if remembered and new texts are put in another order, or if one is tokenized again."""
    core, documents = counted()
    documents([TEXTS[2]])
    found = documents(TEXTS)
    expected = [core.core.encode(text, add_special_tokens=False) for text in TEXTS]
    assert found.ids_N.tolist() == [token for encoding in expected for token in encoding.ids]
    assert found.begin_P.tolist() == np.cumsum([0, *(len(encoding.ids) for encoding in expected)]).tolist()
    offsets = [offset for encoding in expected for offset in encoding.offsets]
    assert list(zip(found.offset_start_N.tolist(), found.offset_end_N.tolist())) == offsets
    documents(TEXTS[::-1])
    assert sorted(core.texts) == sorted(TEXTS)


@pytest.mark.parametrize("kind", ["tokens", "blanks", "one token", "short"])
def test_the_documents_used_last_are_remembered_up_to_a_number_of_bytes(kind):
    """Three documents of one size have room, or a hundred short ones. Breaks if memory grows with all documents ever seen,
    also where these have few tokens or none; or if the newest ones are dropped."""
    if kind == "short":
        texts = [f"a {number}" for number in range(4000)]  # a kilobyte each in memory, whatever their length
    else:
        piece = {"tokens": "a ", "blanks": "  ", "one token": "aa"}[kind]
        texts = [piece * 100_000 + letter for letter in "abcd"]
    size = {"short": 0, "tokens": 200_000 + 16 * 100_000}.get(kind, 200_000)
    core, documents = counted(remembered_bytes=3 * size + 100_000)
    for text in [*texts[:3], texts[0], *texts[3:]]:
        documents([text])
    core.texts.clear()
    documents(texts[-1:])
    assert not core.texts, "the newest"
    documents(texts[1:2])
    assert core.texts == texts[1:2], "the oldest was dropped"
    if kind != "short":
        documents(texts[:1])
        assert core.texts == texts[1:2], "used again before the last one came"


def test_a_document_above_the_limit_pushes_out_no_other():
    core, documents = counted()
    for text in ("a b", "a " * 100_000, "a b", "a " * 100_000):
        documents([text])
    assert core.texts == ["a b", "a " * 100_000, "a " * 100_000]


@pytest.mark.parametrize("make", [wordpiece, roberta])
def test_places_are_widened_to_the_words_of_the_tokenizer(make):
    """Against the library's own char_to_word and word_to_chars, for every span of single characters."""
    tokenizer = make()
    text = "Björk's unbelievable café, 3,000 copies!"
    encoded = tokenizer(text, add_special_tokens=False)
    [document] = DocumentTokens(lambda: tokenizer.backend_tokenizer).documents([text])
    widened = 0
    for place, character in enumerate(text):
        word = encoded.char_to_word(place)
        if word is None:
            continue
        chars = encoded.word_to_chars(word)
        assert document.whole_words(place, place + 1) == (chars.start, chars.end), (place, character)
        widened += chars.end - chars.start > 1
    assert widened > 20
    assert document.whole_words(9, 11) == (8, 20), "unbelievable"
    assert document.whole_words(7, 8) == (7, 8), "a blank is in no word"
