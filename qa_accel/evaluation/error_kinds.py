"""One answer and its question's gold answers -> what kind of answer it is: right, or in which way wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

from qa_accel.answer_language import ENGLISH
from qa_accel.answer_text import answer_tokens

KINDS = {
    "right": "right",
    "other_words": "right but different words (F1 0.5 or more)",
    "boundary": "boundary only (overlaps, F1 below 0.5)",
    "wrong_span": "wrong span",
    "missed": "missed answer",
    "answered_unanswerable": "answered the unanswerable",
    "cut": "answer cut by windows or max_answer_length",
}
"""Id -> name. Each answer is of exactly one."""


@dataclass(frozen=True)
class Place:
    """A text at its place in the context, as characters [start, end); None, None where it is not known."""

    text: str
    start: int | None = None
    end: int | None = None

    @classmethod
    def found(cls, text: str, context: str) -> "Place":
        """Where the context has this text once only, its place; else without one."""
        start = context.find(text) if text else -1
        if start < 0 or context.find(text, start + 1) >= 0:
            return cls(text)
        return cls(text, start, start + len(text))

    def overlaps(self, other: "Place", language: str = ENGLISH) -> bool:
        """Whether both share a character. Without places: whether the words of one are, in order, within the other's."""
        if self.start is None or self.end is None or other.start is None or other.end is None:
            return _within(answer_tokens(self.text, language), answer_tokens(other.text, language))
        return self.start < other.end and other.start < self.end


def kind_of(
    predicted: Place,
    golds: Sequence[Place],
    *,
    exact: float,
    f1: float,
    reachable: bool,
    language: str = ENGLISH,
) -> str:
    """The id of a kind.

    right                   exact match, "no answer" to a question without one included
    answered_unanswerable   a text, where there is no answer
    cut                     no gold answer could be predicted: none is whole in a window and short enough (not `reachable`)
    missed                  "no answer" or blanks alone, where there is an answer
    other_words             F1 of 0.5 or more: most of the words are right
    boundary                the span shares characters with a gold answer's: the place is right, its ends are far off
    wrong_span              the rest
    """
    if exact:
        return "right"
    if not golds:
        return "answered_unanswerable"
    if not reachable:
        return "cut"
    if not predicted.text.strip():
        return "missed"
    if f1 >= 0.5 - 1e-9:  # 6 shared words of 11 and 13 make 0.49999999999999994
        return "other_words"
    return "boundary" if any(predicted.overlaps(gold, language) for gold in golds) else "wrong_span"


def _within(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    short, long = sorted((one, other), key=len)
    return bool(short) and any(long[place : place + len(short)] == short for place in range(len(long) - len(short) + 1))
