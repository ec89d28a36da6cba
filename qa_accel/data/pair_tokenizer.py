"""Questions and contexts as text + a fast tokenizer -> windows.

There are two methods with the same result. The plain one gives the tokenizer every pair of question and context, with
truncation and stride; it is the reference. The composed one tokenizes each distinct text once and assembles the windows
from the tokens, which takes a fraction of the time, since several questions share a context. Most tokenizers write a
pair as two separately tokenized texts with special tokens around them; `compose_if_equal` checks this on a few pairs.
"""

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import chain

import numpy as np

from qa_accel.data.settings import WindowConfig
from qa_accel.data.window_assembly import PairTemplate, TokenizedTexts, assemble, gold_tokens, label, offsets_of, ranges
from qa_accel.data.windows import GoldSpans, Windows

# Hard cases: empty text, blanks, accents (composed or not), wide characters, right-to-left text, characters
# outside of the basic plane, line ends, control characters, ligatures that grow, long words, question marks of two widths.
PROBES = (
    "Who wrote it?",
    "In 1862, Ana Müller wrote \u201cNo. 7\u201d (her first novel) in Zürich-West; it sold 3,000 copies.",
    "",
    " ",
    "  two  blanks\tand\r\nlines\u00a0\u3000",
    "e\u0301tude cafe\u0301 \u0130stanbul \ufb01ancée \u212b \ufdfa",
    "\u6771\u4eac\u306f\u3069\u3053\uff1f \u0e01\u0e32\u0e23 \U0001d518\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u0645\u0646 \u0643\u062a\u0628 \u200fshalom\u200e \u05e9\u05dc\u05d5\u05dd",
    "don't [SEP] <s></s> [CLS] <|endoftext|>x",
    "a" * 120 + " \x00\x07\ufffd ...!?",
)


@contextmanager
def one_thread() -> Iterator[None]:
    """Tokenizers start no threads in this block: a process that forks after that can hang, and ours fork."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


class PairTokenizer:
    """Turns rows of texts into windows, by the composed method if `form` is set, else by the plain one."""

    def __init__(self, tokenizer, config: WindowConfig):
        self.tokenizer = copy.copy(tokenizer)  # the caller's tokenizer keeps its sides
        self.tokenizer.truncation_side = "right"
        self.config = config
        self.gives_types = "token_type_ids" in tokenizer.model_input_names
        self.question_first = not self._puts_cls_last()
        self.form: PairTemplate | None = None
        self.context_tokens: Callable[[list[str]], TokenizedTexts] = self._tokens_of_contexts
        """Distinct contexts -> their tokens, for the composed method. A caller may set one that remembers more of them."""
        self._contexts: tuple[list[str], TokenizedTexts] | None = None

    @property
    def backend(self):
        """The tokenizer's core, set to give whole texts; an earlier call leaves its truncation set."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = bool(getattr(self.tokenizer, "split_special_tokens", False))
        return backend

    def windows(self, questions: Sequence[str], contexts: Sequence[str], gold: GoldSpans) -> Windows:
        if self.form is None:
            return self.tokenize_pairs(questions, contexts, gold)
        return self.compose_windows(questions, contexts, gold, self.form)

    def compose_if_equal(self, questions: Sequence[str], contexts: Sequence[str]) -> str | None:
        """Switches to the composed method if it gives the plain one's result for these texts and for PROBES.

        Returns None, or the reason why not.
        """
        form = self._form()
        if form is None:
            return "its special tokens are not before, between and after the two texts"
        rows = [(question, context) for question in PROBES for context in PROBES] + list(zip(questions, contexts))
        questions, contexts = [row[0] for row in rows], [row[1] for row in rows]
        gold = GoldSpans.one_each(np.full(len(rows), 3), np.full(len(rows), 9))
        # Short texts would fill only one window and leave no question cut, so small windows are tried as well.
        special = self.tokenizer.num_special_tokens_to_add(pair=True)
        short = WindowConfig(max_seq_length=special + 12, doc_stride=3, max_query_length=5)
        for config in (short, self.config):
            plain = self.tokenize_pairs(questions, contexts, gold, config)
            composed = self.compose_windows(questions, contexts, gold, form, config)
            for name in (each.name for each in fields(Windows)):
                if not same(getattr(plain, name), getattr(composed, name)):
                    return f"it tokenizes pairs differently from single texts ({name} differs)"
        self.form = form
        return None

    def compose_windows(
        self,
        questions: Sequence[str],
        contexts: Sequence[str],
        gold: GoldSpans,
        form: PairTemplate,
        config: WindowConfig | None = None,
    ) -> Windows:
        config = config or self.config
        question_texts, question_Q = distinct(questions)
        context_texts, context_Q = distinct(contexts)
        questions_tokenized = self._tokens(question_texts, offsets=False)
        uncut_P = questions_tokenized.lengths_P
        cut_P = uncut_P > config.max_query_length
        if cut_P.any():
            long = np.flatnonzero(cut_P)
            shorter = self._tokens([self._cut(question_texts[p], config.max_query_length) for p in long], offsets=False)
            kept_P = np.arange(len(cut_P))
            kept_P[long] = len(cut_P) + np.arange(len(long))
            questions_tokenized = TokenizedTexts(
                np.concatenate([questions_tokenized.ids_N, shorter.ids_N]),
                offsets_of(np.concatenate([questions_tokenized.lengths_P, shorter.lengths_P])),
            )
        else:
            kept_P = np.arange(len(cut_P))
        return assemble(
            form,
            questions_tokenized,
            self.context_tokens(context_texts),
            kept_P[question_Q],
            context_Q,
            uncut_P[question_Q],
            gold,
            config,
        )

    def tokenize_pairs(
        self, questions: Sequence[str], contexts: Sequence[str], gold: GoldSpans, config: WindowConfig | None = None
    ) -> Windows:
        config = config or self.config
        question_texts, question_Q = distinct(questions)
        uncut_P = self._tokens(question_texts, offsets=False).lengths_P
        cut_P = uncut_P > config.max_query_length
        kept = [self._cut(text, config.max_query_length) if cut else text for text, cut in zip(question_texts, cut_P)]
        kept_questions = [kept[p] for p in question_Q]
        encoded = self.tokenizer(
            *((kept_questions, list(contexts)) if self.question_first else (list(contexts), kept_questions)),
            truncation="only_second" if self.question_first else "only_first",
            max_length=config.max_seq_length,
            stride=config.doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        begin_W = offsets_of(np.fromiter(map(len, encoded["input_ids"]), np.int64))
        length = begin_W[-1]
        ids_N = np.fromiter(chain.from_iterable(encoded["input_ids"]), np.int32, length)
        types_N = None
        if self.gives_types:
            types_N = np.fromiter(chain.from_iterable(encoded["token_type_ids"]), np.uint8, length)
        texts = chain.from_iterable(encoding.sequence_ids for encoding in encoded.encodings)
        text_N = np.fromiter((-1 if text is None else text for text in texts), np.int8, length)
        is_context_N = text_N == (1 if self.question_first else 0)
        offsets = chain.from_iterable(chain.from_iterable(encoded["offset_mapping"]))
        offset_N2 = np.fromiter(offsets, np.int32, 2 * length).reshape(-1, 2) * is_context_N[:, None]

        question_W = np.array(encoded["overflow_to_sample_mapping"], np.int32)
        W = len(question_W)
        window_N = np.repeat(np.arange(W), np.diff(begin_W))
        place_N = np.arange(length) - begin_W[:-1][window_N]
        context_tokens_W = np.bincount(window_N[is_context_N], minlength=W)
        context_begin_W = np.zeros(W, np.int32)
        context_begin_W[window_N[is_context_N][::-1]] = place_N[is_context_N][::-1]  # the first one is written last
        context_end_W = (context_begin_W + context_tokens_W).astype(np.int32)
        null_W = np.zeros(W, np.int32)
        for token in (self.tokenizer.bos_token_id, self.tokenizer.cls_token_id):  # CLS overrides BOS
            found = np.flatnonzero((ids_N == token) & (text_N == -1)) if token is not None else np.zeros(0, int)
            null_W[window_N[found][::-1]] = place_N[found][::-1]

        # Labels look at whole contexts: a window's tokens after those that it shares with the previous one.
        nth_W = np.arange(W) - np.searchsorted(question_W, question_W)
        shared_W = np.where(nth_W > 0, config.doc_stride, 0)
        fresh_W = context_tokens_W - shared_W
        fresh_N = ranges(begin_W[:-1] + context_begin_W + shared_W, fresh_W)
        context_tokens_Q = np.bincount(question_W, weights=fresh_W, minlength=len(kept_questions)).astype(np.int64)
        context_lengths = offsets_of(context_tokens_Q)
        contexts_tokenized = TokenizedTexts(
            ids_N[fresh_N], context_lengths, offset_N2[fresh_N, 0], offset_N2[fresh_N, 1]
        )
        first_A, last_A = gold_tokens(contexts_tokenized, np.arange(len(kept_questions)), gold)
        room_Q = context_tokens_W[nth_W == 0]
        slice_W = nth_W * (room_Q[question_W] - config.doc_stride)
        labels = label(gold, first_A, last_A, question_W, slice_W, context_begin_W, context_end_W, null_W)
        return Windows(
            input_ids_N=ids_N,
            token_type_ids_N=types_N,
            offset_start_N=offset_N2[:, 0],
            offset_end_N=offset_N2[:, 1],
            begin_W=begin_W,
            question_W=question_W,
            context_begin_W=context_begin_W,
            context_end_W=context_end_W,
            null_W=null_W,
            question_cut_Q=cut_P[question_Q],
            question_tokens_Q=uncut_P[question_Q].astype(np.int32),
            **labels,
        )

    def _tokens(self, texts: Sequence[str], offsets: bool) -> TokenizedTexts:
        if not offsets:
            encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        else:
            encodings = self.backend.encode_batch(texts, add_special_tokens=False)
        begin_P = offsets_of(np.fromiter(map(len, encodings), np.int64, len(encodings)))
        ids_N = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32, begin_P[-1])
        if not offsets:
            return TokenizedTexts(ids_N, begin_P)
        pairs = chain.from_iterable(encoding.offsets for encoding in encodings)
        offset_N2 = np.fromiter(chain.from_iterable(pairs), np.int32, 2 * begin_P[-1]).reshape(-1, 2)
        return TokenizedTexts(ids_N, begin_P, offset_N2[:, 0], offset_N2[:, 1])

    def _tokens_of_contexts(self, texts: list[str]) -> TokenizedTexts:
        """Questions on a long document come in several batches; its tokens are those of the batch before."""
        if self._contexts is None or self._contexts[0] != texts:
            self._contexts = texts, self._tokens(texts, offsets=True)
        return self._contexts[1]

    def _cut(self, question: str, most: int) -> str:
        """The longest prefix of the question that ends at a token's end and has at most `most` tokens.

        Text is cut, not tokens, so that both methods give the tokenizer the same text. A prefix may have more tokens
        than its part of the whole question (a character may be several tokens), so the cut moves left until it fits.
        """
        backend = self.backend
        ends = [end for _, end in backend.encode(question, add_special_tokens=False).offsets]
        for kept in range(most, 0, -1):
            shorter = question[: max(ends[:kept])]
            if len(backend.encode(shorter, add_special_tokens=False)) <= most:
                return shorter
        return ""

    def _puts_cls_last(self) -> bool:
        ids, cls = self.backend.encode("a", "b").ids, self.tokenizer.cls_token_id
        return cls is not None and len(ids) > 1 and ids[-1] == cls and cls not in ids[:-1]

    def _form(self) -> PairTemplate | None:
        """The special tokens around two texts, read off a pair; None if they are elsewhere."""
        encoded = self.backend.encode(PROBES[0], PROBES[1])
        texts = [-1 if text is None else text for text in encoded.sequence_ids]
        if 0 not in texts or 1 not in texts:
            return None
        first, second = texts.index(0), texts.index(1)
        first_end, second_end = first + texts.count(0), second + texts.count(1)
        in_order = [-1] * first + [0] * (first_end - first) + [-1] * (second - first_end) + [1] * (second_end - second)
        if texts != in_order + [-1] * (len(texts) - second_end):
            return None
        groups = slice(0, first), slice(first_end, second), slice(second_end, None)
        ids = [tuple(encoded.ids[group]) for group in groups]
        types = [tuple(encoded.type_ids[group]) for group in groups]
        null = None
        for token in (self.tokenizer.cls_token_id, self.tokenizer.bos_token_id):
            places = [(g, group.index(token)) for g, group in enumerate(ids) if token in group]
            if null is None and places:
                null = places[0]
        return PairTemplate(
            question_first=self.question_first,
            special_ids=(ids[0], ids[1], ids[2]),
            special_types=(types[0], types[1], types[2]) if self.gives_types else None,
            text_types=(encoded.type_ids[first], encoded.type_ids[second]),
            null=null,
        )


def distinct(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Each text once, and for every text its index among them."""
    place: dict[str, int] = {}
    index = np.fromiter((place.setdefault(text, len(place)) for text in texts), np.int64, len(texts))
    return list(place), index


def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and np.array_equal(one, other)
