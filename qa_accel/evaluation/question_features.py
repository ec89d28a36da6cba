"""A question, its context and gold answers -> what kind of question it is: the families of slices of the error analysis.

Plain rules on words, in English where they need words: each value is reproducible and can be read off the question. They need no
model and are no linguistics; where a rule finds nothing the value is "other".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from qa_accel.evaluation.answer_types import answer_type, words_of

FAMILIES = {
    "answerable": "answer in the context",
    "question_word": "question word",
    "answer_type": "answer type",
    "answer_length": "answer length",
    "context_length": "context length",
    "windows": "windows",
    "answer_position": "answer position",
    "overlap": "question words in the context",
    "title": "title",
    "set": "set",
}
"""Id -> name."""
OTHER = "other"
MOST_TITLES = 50
MOST_OF_TITLE = 200
"""Characters: a report repeats them."""
LEAST_OF_TITLE = 10
"""Questions without which a title is counted among the others."""

_QUESTION_WORDS = ("what", "which", "who", "whom", "whose", "when", "where", "why", "how")
_STOP_WORDS = frozenset(
    "a about an and are as at be been by can could did do does for from had has have how in into is it its many much of on "
    "or s than that the their them they this to was were what when where which who whom whose why will with would".split()
)


@dataclass(frozen=True)
class AskedQuestion:
    """One row of the data, and how many windows it is cut into."""

    question: str
    context: str
    gold_texts: Sequence[str]
    gold_starts: Sequence[int]
    """Characters of the context, one for each text."""
    title: str | None
    windows: int | None
    """None where it is not known."""
    set_name: str | None = None
    """Of several named sets of data."""


def features(asked: AskedQuestion) -> dict[str, str]:
    """Family -> value, without the families that do not apply: those of answers are only of questions that have one.

    Titles are as they are: see `common_titles`.
    """
    found = {
        "answerable": "yes" if asked.gold_texts else "no",
        "question_word": question_word(asked.question),
        "context_length": _step(len(asked.context), (500, 750, 1000, 2000, 5000), "characters"),
        "overlap": overlap(asked.question, asked.context),
    }
    if asked.gold_texts:
        first, start = asked.gold_texts[0], asked.gold_starts[0]
        found |= {
            "answer_type": answer_type(first),
            "answer_length": _step(max(1, len(first.split())), (1, 3, 6, 12), "words"),
            "answer_position": _quarter(start, len(asked.context)),
        }
    if asked.windows is not None:
        found["windows"] = _step(asked.windows, (1, 2, 4, 8), "windows")
    if asked.title:
        found["title"] = asked.title[:MOST_OF_TITLE]
    if asked.set_name is not None:
        found["set"] = asked.set_name
    return found


def common_titles(rows: Sequence[dict[str, str]]) -> None:
    """Titles of few questions become one slice, in place: a thousand slices of three questions each say nothing."""
    counts: dict[str, int] = {}
    for row in rows:
        if "title" in row:
            counts[row["title"]] = counts.get(row["title"], 0) + 1
    largest = sorted(counts, key=lambda title: (-counts[title], title))[:MOST_TITLES]
    kept = {title for title in largest if counts[title] >= LEAST_OF_TITLE}
    for row in rows:
        if "title" in row and row["title"] not in kept:
            row["title"] = f"{OTHER} titles"


def question_word(question: str) -> str:
    """The first interrogative of the question: what, which, who, when, where, why, how, how many."""
    words = [word.lower() for word in words_of(question)]
    for place, word in enumerate(words):
        word = word.split("'")[0]
        if word in _QUESTION_WORDS:
            if word == "how" and words[place + 1 : place + 2] in (["many"], ["much"]):
                return "how many"
            return "who" if word in ("whom", "whose") else word
    return OTHER


def overlap(question: str, context: str) -> str:
    """How many of the question's different words are in the context, without those that are in every text."""
    asked = _words_of(question) - _STOP_WORDS
    if not asked:
        return OTHER
    share = len(asked & _words_of(context)) / len(asked)
    return (
        "all" if share == 1 else "75 % or more" if share >= 0.75 else "50 to 75 %" if share >= 0.5 else "less than 50 %"
    )


@lru_cache(maxsize=16)  # questions of one context follow each other
def _words_of(text: str) -> frozenset[str]:
    return frozenset(word.lower().removesuffix("'s") for word in words_of(text))


def _step(number: int, ends: Sequence[int], unit: str) -> str:
    """The step that a number is in: "up to 500 characters", "501 to 750 characters", ..., "more than 5000 characters"."""
    previous = 0
    for end in ends:
        if number <= end:
            if end == previous + 1:
                return f"{end} {unit}" if end > 1 else f"1 {unit.removesuffix('s')}"
            return f"up to {end} {unit}" if previous == 0 else f"{previous + 1} to {end} {unit}"
        previous = end
    return f"more than {previous} {unit}"


def _quarter(start: int, length: int) -> str:
    quarter = min(3, 4 * max(start, 0) // max(length, 1))
    return f"{('first', 'second', 'third', 'last')[quarter]} quarter"


def slices_of(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, list[int]]]:
    """Family -> value -> rows; families of one value only are left out, since they compare nothing."""
    found: dict[str, dict[str, list[int]]] = {family: {} for family in FAMILIES}
    for place, row in enumerate(rows):
        for family, value in row.items():
            found[family].setdefault(value, []).append(place)
    return {family: values for family, values in found.items() if len(values) > 1}
