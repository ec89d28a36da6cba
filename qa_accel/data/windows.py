"""What a window is: a question and a slice of its context as tokens of fixed maximum length (Hugging Face's *feature*).

Axes: Q questions (rows), A gold answers, W windows, N all tokens one after the other, G labels of all windows, M teachers.
"""

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qa_accel.data.settings import LabelledAnswers, WindowConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows as flat arrays. Positions count tokens of the unpadded window; the collator adds the padding."""

    input_ids_N: np.ndarray
    """int32."""
    token_type_ids_N: np.ndarray | None
    """uint8; None if the tokenizer gives no token types."""
    offset_start_N: np.ndarray
    """int32, first character of the context that a token covers; 0 outside of the context."""
    offset_end_N: np.ndarray
    """int32, the character after the last one; 0 outside of the context."""
    begin_W: np.ndarray
    """int64, W + 1 entries: window w is the slice begin_W[w]:begin_W[w + 1] of the arrays above."""
    question_W: np.ndarray
    """int32, row of the questions; windows are in question order, then from left to right."""
    context_begin_W: np.ndarray
    """int32, first token of the context; 0 if the context has no token."""
    context_end_W: np.ndarray
    """int32, the token after the context's last one; 0 if the context has no token."""
    null_W: np.ndarray
    """int32, the position of the "no answer" token."""
    start_W: np.ndarray
    """int32, first token of the label: the first of the question's labelled answers that the window holds whole, else null_W."""
    end_W: np.ndarray
    """int32, last token of the label; null_W if the window holds no labelled answer whole."""
    question_cut_Q: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    """bool, questions that were longer than max_query_length."""
    question_tokens_Q: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    """int32, tokens of each question before it was cut."""
    gold_begin_W: np.ndarray | None = None
    """int64, W + 1 entries: window w has the labels gold_begin_W[w]:gold_begin_W[w + 1] of the two arrays below, none without
    an answer. None unless all gold answers are labels; so are they."""
    gold_start_G: np.ndarray | None = None
    """int32, first token of each gold answer that the window holds whole; each span of tokens once, from left to right."""
    gold_end_G: np.ndarray | None = None
    """int32, last token of each."""
    left_out_W: np.ndarray | None = None
    """bool, windows that hold a later gold answer, but not the question's first one: "no answer" would be wrong, so they are
    not trained on. None unless only first answers are labels."""

    def __len__(self) -> int:
        return len(self.question_W)

    @property
    def lengths_W(self) -> np.ndarray:
        return np.diff(self.begin_W)


@dataclass(frozen=True, eq=False)
class TaughtWindows(Windows):
    """Windows with what fine-tuned models (teachers) say of their tokens."""

    teacher_start_MN: tuple[np.ndarray, ...] = ()
    """float16 or float32: of each teacher the start logit of every token."""
    teacher_end_MN: tuple[np.ndarray, ...] = ()
    """The same of the end."""
    teachers: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint of each teacher's weights and windows -> its name."""


@dataclass(frozen=True)
class GoldSpans:
    """The gold answers of some questions, in question order, as characters [begin, end) of their contexts.

    A question may have several or none; an answer of no character (end <= begin) is held by no window.
    """

    question_A: np.ndarray
    """Row of the question, ascending."""
    begin_A: np.ndarray
    end_A: np.ndarray
    labelled: LabelledAnswers = "any"
    """Which of them are labels of a window."""

    @classmethod
    def one_each(cls, begin_Q: Sequence[int] | np.ndarray, end_Q: Sequence[int] | np.ndarray) -> "GoldSpans":
        """One answer per question."""
        return cls(np.arange(len(begin_Q)), np.asarray(begin_Q, np.int64), np.asarray(end_Q, np.int64))

    @classmethod
    def none(cls) -> "GoldSpans":
        """Questions without gold answers."""
        return cls.one_each([], [])


def end_of_character(text: str, end: int) -> int:
    """`end`, moved behind the combining marks (Unicode category M) that belong to the character before it.

    Tokenizers that strip accents give a token the place of the letter alone: without this, an answer in Thai, Hindi or
    decomposed text would end inside a character.
    """
    while 0 < end < len(text) and unicodedata.category(text[end])[0] == "M":
        end += 1
    return end


def check_tokenizer(tokenizer, config: WindowConfig) -> None:
    """Raises ValueError if windows cannot be made, before any text is read."""
    name = type(tokenizer).__name__
    special = tokenizer.num_special_tokens_to_add(pair=True)
    room = config.max_seq_length - config.max_query_length - special
    # Short questions leave more room, but whether a run starts must not depend on its data's longest question.
    if config.doc_stride >= room:
        raise ValueError(
            f"doc_stride={config.doc_stride} must be less than the context's room in a window with the longest "
            f"question: max_seq_length {config.max_seq_length} - max_query_length {config.max_query_length} - "
            f"{special} special tokens of {name} = {room}. Lower doc_stride or max_query_length, or raise max_seq_length"
        )
    if config.max_seq_length > tokenizer.model_max_length:
        logger.warning(
            "max_seq_length=%d, but the tokenizer's model takes at most %d tokens (model_max_length)",
            config.max_seq_length,
            tokenizer.model_max_length,
        )
