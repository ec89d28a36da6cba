"""What transformers' removed `pipeline("question-answering")` computed, written down slowly from its definition.

Of each window: a softmax over its start logits and one over its end logits, each over the tokens of the context and the
null position; the score of a span is the product of its two probabilities, and "no answer" has the lowest product over the
windows. Every window is encoded by the tokenizer alone, without padding, and every pair of tokens is looked at. `ranked`
merges equal places and keeps the best; `merged_by_text` merges as the pipeline did, which is one of its faults.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Window:
    ids: list[int]
    types: list[int] | None
    offsets: list[tuple[int, int] | None]
    """Characters of the context that a token covers; None outside of the context."""
    words: list[tuple[int, int] | None]
    """Characters of the tokenizer's word that a token of the context is part of; None where there is none."""
    null: int
    """Position of the token that represents "no answer"."""


@dataclass(frozen=True)
class Span:
    score: float
    logit: float
    """Start logit + end logit."""
    start: int
    end: int
    text: str
    window: int
    """Which window the score is from; -1 for "no answer"."""


Logits = tuple[Sequence[float], Sequence[float]]
"""Start and end logits of one window, a number per token."""


def windows_of(tokenizer: Any, question: str, context: str, *, max_seq_len: int, doc_stride: int) -> list[Window]:
    """The tokenizer's own pair encoding. The question is not cut."""
    first = tokenizer("a", "b").encodings[0]
    cls_last = first.ids[-1] == tokenizer.cls_token_id  # such models have the context before the question
    texts = (context, question) if cls_last else (question, context)
    encoded = tokenizer(
        *texts,
        truncation="only_first" if cls_last else "only_second",
        max_length=max_seq_len,
        stride=doc_stride,
        return_overflowing_tokens=True,
        return_token_type_ids="token_type_ids" in tokenizer.model_input_names,
    )
    place = 0 if cls_last else 1
    whole = tokenizer(*texts).encodings[0]  # a window may end within a word
    found = []
    for number, encoding in enumerate(encoded.encodings):
        own = [text == place for text in encoding.sequence_ids]
        words: list[tuple[int, int] | None] = []
        for inside, word in zip(own, encoding.word_ids):
            words.append(tuple(whole.word_to_chars(word, place)) if inside and word is not None else None)
        found.append(
            Window(
                ids=encoding.ids,
                types=encoded["token_type_ids"][number] if "token_type_ids" in encoded else None,
                offsets=[offset if inside else None for offset, inside in zip(encoding.offsets, own)],
                words=words,
                null=null_position(tokenizer, encoding),
            )
        )
    return found


def null_position(tokenizer: Any, encoding: Any) -> int:
    """The first CLS token that is not part of a text, else the first BOS token, else 0."""
    for wanted in (tokenizer.cls_token_id, tokenizer.bos_token_id):
        for token, (number, text) in enumerate(zip(encoding.ids, encoding.sequence_ids)):
            if wanted is not None and number == wanted and text is None:
                return token
    return 0


def logits_of(model: Any, window: Window) -> Logits:
    """Of a transformers model: one window, no padding, no batch."""
    inputs = {
        "input_ids": torch.tensor([window.ids]),
        "attention_mask": torch.ones(1, len(window.ids), dtype=torch.long),
    }
    if window.types is not None:
        inputs["token_type_ids"] = torch.tensor([window.types])
    with torch.no_grad():
        output = model(**inputs)
    return output.start_logits[0].tolist(), output.end_logits[0].tolist()


def probabilities(logits: Sequence[float], places: Sequence[int]) -> dict[int, float]:
    """Softmax over these places alone."""
    highest = max(logits[place] for place in places)
    weights = {place: math.exp(logits[place] - highest) for place in places}
    total = math.fsum(weights.values())
    return {place: weight / total for place, weight in weights.items()}


def spans_of(
    number: int, window: Window, logits: Logits, context: str, *, max_answer_len: int, align_to_words: bool
) -> list[Span]:
    """All spans of one window, best first; of equal ones the first to start, then the first to end."""
    inside = [token for token, offset in enumerate(window.offsets) if offset is not None]
    start, end = (probabilities(part, [*inside, window.null]) for part in logits)
    found = []
    for first in inside:
        for last in range(first, min(first + max_answer_len, inside[-1] + 1)):
            place = characters(window, first, last, align_to_words=align_to_words)
            begin, stop = without_blanks(context, *place)
            if begin < stop:
                logit = logits[0][first] + logits[1][last]
                found.append(Span(start[first] * end[last], logit, begin, stop, context[begin:stop], number))
    return sorted(found, key=lambda span: (-span.score, span.start, span.end))


def characters(window: Window, first: int, last: int, *, align_to_words: bool) -> tuple[int, int]:
    """From the first token's first character to the last token's last one, or of the words that they are part of."""
    if align_to_words:
        first_word, last_word = window.words[first], window.words[last]
        if first_word is not None and last_word is not None:
            return first_word[0], last_word[1]
    first_token, last_token = window.offsets[first], window.offsets[last]
    assert first_token is not None and last_token is not None, "both are tokens of the context"
    return first_token[0], last_token[1]


def without_blanks(context: str, start: int, end: int) -> tuple[int, int]:
    while start < end and context[start].isspace():
        start += 1
    while start < end and context[end - 1].isspace():
        end -= 1
    return start, end


def null_of(windows: Sequence[Window], logits: Sequence[Logits]) -> Span:
    """ "No answer": the lowest product of probabilities over the windows, and the lowest sum of logits."""
    products, sums = [], []
    for window, (start, end) in zip(windows, logits, strict=True):
        places = [token for token, offset in enumerate(window.offsets) if offset is not None] + [window.null]
        products.append(probabilities(start, places)[window.null] * probabilities(end, places)[window.null])
        sums.append(start[window.null] + end[window.null])
    return Span(min(products), min(sums), 0, 0, "", -1)


def all_spans(
    windows: Sequence[Window], logits: Sequence[Logits], context: str, *, max_answer_len: int, align_to_words: bool
) -> list[Span]:
    """Of all windows, window after window; the same place may come several times."""
    found = []
    for number, (window, own) in enumerate(zip(windows, logits, strict=True)):
        found += spans_of(number, window, own, context, max_answer_len=max_answer_len, align_to_words=align_to_words)
    return found


def ranked(spans: Sequence[Span], by: Callable[[Span], float] = lambda span: span.score) -> list[Span]:
    """Each place once, with its best span; best first, of equal ones the first to start, then the first to end."""
    best: dict[tuple[int, int], Span] = {}
    for span in sorted(spans, key=lambda span: (-by(span), span.start, span.end)):
        best.setdefault((span.start, span.end), span)
    return list(best.values())


def merged_by_text(windows_spans: Sequence[Sequence[Span]], top_k: int, *, fetched: int) -> list[Span]:
    """The pipeline's own merging: of each window the best `fetched` spans; equal texts, whatever their case, become the first
    of them with the sum of all their scores."""
    found: dict[str, Span] = {}
    for spans in windows_spans:
        for span in spans[:fetched]:
            before = found.get(span.text.lower())
            if before is None:
                found[span.text.lower()] = span
            else:
                summed = before.score + span.score
                found[span.text.lower()] = Span(
                    summed, before.logit, before.start, before.end, before.text, before.window
                )
    return sorted(found.values(), key=lambda span: -span.score)[:top_k]
