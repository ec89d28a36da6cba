"""An n-best list -> results in the form of transformers' removed pipeline: {"score", "start", "end", "answer"}."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from qa_accel.inference.answer_lists import NBestEntry, logit_score
from qa_accel.inference.call_settings import CallSettings

Place = tuple[int, int]
Widen = Callable[[str, Iterable[Place]], Iterable[Place]]
"""A context and spans of it, as characters -> the spans, widened to whole words."""


def results(
    context: str, entries: Sequence[NBestEntry], call: CallSettings, threshold: float, whole_words: Widen
) -> list[dict[str, Any]]:
    """The best `call.top_k` entries that differ in place. Without any span, the empty answer."""
    empty = next(entry for entry in entries if entry["end"] == 0)
    spans = [entry for entry in entries if entry is not empty]
    places: Iterable[Place] = ((entry["start"], entry["end"]) for entry in spans)
    if call.align_to_words:
        places = whole_words(context, places)
    null_score = logit_score(empty)
    found: dict[Place, dict[str, Any]] = {}
    for entry, place in zip(spans, places):
        if len(found) == call.top_k:
            break
        if call.handle_impossible_answer and null_score - logit_score(entry) > threshold:
            found.setdefault((0, 0), _result(context, empty, (0, 0)))
        found.setdefault(place, _result(context, entry, place))
    if call.handle_impossible_answer or not found:
        found.setdefault((0, 0), _result(context, empty, (0, 0)))
    return list(found.values())[: call.top_k]


def _result(context: str, entry: NBestEntry, place: Place) -> dict[str, Any]:
    start, end = place
    result: dict[str, Any] = {"score": entry["score"], "start": start, "end": end, "answer": context[start:end]}
    return result | {"confidence": entry["confidence"]} if "confidence" in entry else result


def agreed_words(widened: Sequence[Iterable[Place]]) -> Iterable[Place]:
    """Of spans that several tokenizers have widened to their words, what is in all: no words are known to one of them only."""
    for places in zip(*widened):
        yield max(start for start, _ in places), min(end for _, end in places)
