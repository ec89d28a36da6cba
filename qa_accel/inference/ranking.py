"""N-best lists of several documents -> one ranking of answers, with the passage around each.

Spans of all documents are ranked by their logits, as those of several windows are: of the quantities compared in
docs/results.md none ranks better. Whether any document holds an answer is decided by the document with the lowest null odds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from qa_accel.inference.answer_lists import NULL_ODDS_WITHOUT_SPAN, NBestEntry, logit_score
from qa_accel.inference.confidence import Calibration, sigmoid
from qa_accel.messages import shown


class Place(TypedDict):
    """Where an answer is: `text_of[document][start:end]`, in characters."""

    document: Any
    start: int
    end: int


@dataclass(frozen=True)
class RankSettings:
    """Arguments of `Reader.rank`. Raises ValueError for a value that cannot work, by its name."""

    top_k: int
    top_k_per_document: int | None
    remove_overlaps: bool
    merge_equal_texts: bool
    passage_size: int

    def __post_init__(self):
        for name, lowest in (("top_k", 1), ("top_k_per_document", 1), ("passage_size", 0)):
            value = getattr(self, name)
            if (value is not None or name != "top_k_per_document") and (type(value) is not int or value < lowest):
                raise ValueError(f"{name} is {shown(value)}; expected a whole number of at least {lowest}")
        for name in ("remove_overlaps", "merge_equal_texts"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {shown(getattr(self, name))}; expected True or False")


def ranking(
    ids: Sequence[Any],
    texts: Sequence[str],
    nbest: Sequence[Sequence[NBestEntry]],
    null_odds: Sequence[float],
    settings: RankSettings,
    calibration: Calibration | None,
) -> dict[str, Any]:
    """The result of `Reader.rank` for one question; `nbest` and `null_odds` have an element per document."""
    return {
        "answers": ranked_answers(ids, texts, nbest, settings),
        "null_odds": min(null_odds, default=NULL_ODDS_WITHOUT_SPAN),
        "no_answer_probability": no_answer_probability(null_odds, calibration),
    }


def ranked_answers(
    ids: Sequence[Any], texts: Sequence[str], nbest: Sequence[Sequence[NBestEntry]], settings: RankSettings
) -> list[dict[str, Any]]:
    """The best answers over all documents, best first; `nbest` has a list per document. The empty answer is none of them.

    Equal ones keep the order of the documents.
    """
    candidates = [
        (entry, place) for place, entries in enumerate(nbest) for entry in entries if entry["end"] > entry["start"]
    ]
    candidates.sort(key=lambda candidate: -logit_score(candidate[0]))
    answers: list[dict[str, Any]] = []
    for entry, place in _chosen(candidates, settings):
        passage_start, passage_end = passage(texts[place], entry["start"], entry["end"], settings.passage_size)
        answers.append(
            {
                "document": ids[place],
                **{key: value for key, value in entry.items() if key != "probability"},  # it is one within its document
                "passage": texts[place][passage_start:passage_end],
                "passage_start": passage_start,
            }
        )
        if len(answers) == settings.top_k and not settings.merge_equal_texts:
            break
    return _merged(answers)[: settings.top_k] if settings.merge_equal_texts else answers


def no_answer_probability(null_odds: Sequence[float], calibration: Calibration | None) -> float:
    """Probability that none of the documents holds an answer, from the null odds of each; 1 without documents.

    That of the document which most likely holds one: a product over the documents counts the same doubt many times, and is
    far too sure with 20 of them (docs/results.md). Without a calibration, the softmax of "no answer" and the best span.
    """
    lowest = min(null_odds, default=NULL_ODDS_WITHOUT_SPAN)
    if calibration is not None and calibration.knows_no_answer:
        return 1.0 - calibration.answerable(lowest)
    return sigmoid(lowest)


def _chosen(candidates: list[tuple[NBestEntry, int]], settings: RankSettings) -> Iterator[tuple[NBestEntry, int]]:
    """Those of each document that its limit, and better overlapping spans, leave."""
    places: dict[int, list[tuple[int, int]]] = {}
    for entry, place in candidates:
        kept = places.setdefault(place, [])
        if settings.top_k_per_document is not None and len(kept) >= settings.top_k_per_document:
            continue
        if settings.remove_overlaps and any(entry["start"] < end and start < entry["end"] for start, end in kept):
            continue
        kept.append((entry["start"], entry["end"]))
        yield entry, place


def _merged(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers whose texts differ; the best of equal ones, with the places of the others under `also`.

    Texts are equal if they differ only in case and blanks.
    """
    merged: dict[str, dict[str, Any]] = {}
    for answer in answers:
        key = " ".join(answer["text"].casefold().split())
        if key not in merged:
            merged[key] = answer | {"also": []}
        else:
            merged[key]["also"].append(Place(document=answer["document"], start=answer["start"], end=answer["end"]))
    return list(merged.values())


def passage(text: str, start: int, end: int, size: int) -> tuple[int, int]:
    """Characters of at most `size` around [start, end), or the answer's own if it is longer. No word is cut, unless there
    is no blank."""
    room = max(size, end - start)
    first = max(0, min(start - (room - (end - start)) // 2, len(text) - room))
    last = min(len(text), first + room)
    if first > 0 and not text[first - 1].isspace():
        first = next((place for place in range(first, start) if text[place].isspace()), first)
    if last < len(text) and not text[last].isspace():
        last = next((place for place in range(last - 1, end - 1, -1) if text[place].isspace()), last)
    while first < start and text[first].isspace():
        first += 1
    while last > end and text[last - 1].isspace():
        last -= 1
    return first, last
