"""Label Studio's JSON export of its question answering template: the texts are `data.text` and `data.question`.

(HumanSignal/label-studio, docs/source/templates/question_answering.md and guide/task_format.) Each annotator's regions are
gold answers; an annotator without a region found no answer, and one who cancelled says nothing. The browser counts UTF-16
units, so a character such as an emoji shifts what follows (label-studio issues 1347 and 4988); the regions' own texts show
where a task counts in characters instead.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from qa_accel.data.layouts.layout import File, Layout, NotedRow, Place
from qa_accel.messages import listed, shown

NAME = "Label Studio's export"


class _Region(NamedTuple):
    start: int
    end: int
    text: str | None
    """None if the export has offsets alone."""


def _is_own(element: dict[str, Any]) -> bool:
    data = element.get("data")
    annotated = {"annotations", "completions", "predictions"} & element.keys()
    return isinstance(data, dict) and "context" not in element and bool(annotated or "question" in data)


def _rows(element: dict[str, Any], position: int, file: File) -> Iterator[NotedRow]:
    place = file.place(NAME, f"task {position}")
    data = element["data"]
    for key in ("text", "question"):
        if not isinstance(data.get(key), str):
            raise place.error(
                f"{key!r} under 'data' is {shown(data.get(key))}; found {listed(data)}; Label Studio's question answering "
                "template has text and question there, as text"
            )
    values = {"id": element.get("id"), "question": data["question"], "context": data["text"]}
    regions = _regions(element, place)
    yield place.where, values | ({} if regions is None else {"answers": _answers(regions, data["text"], place)})


def _regions(element: dict[str, Any], place: Place) -> list[_Region] | None:
    """Regions of all annotators; None if there is no annotator."""
    key = "completions" if "completions" in element else "annotations"
    if element.get(key) is None:
        return None
    done = [
        (inner, annotation)
        for inner, annotation in place.objects(element, key, "annotation")
        if not (annotation.get("was_cancelled") or annotation.get("skipped"))
    ]
    regions = []
    for inner, annotation in done:
        for at, result in inner.objects(annotation, "result", "result"):
            if "value" not in result:  # a relation of two regions
                continue
            value = at.object(result["value"])
            if "start" in value and "end" in value:  # a choice or a comment has none
                regions.append(_region(value, at))
    return regions if done else None


def _region(value: dict[str, Any], place: Place) -> _Region:
    start, end, text = place.whole(value, "start"), place.whole(value, "end"), value.get("text")
    if not 0 <= start < end:
        raise place.error(f"'start' is {start} and 'end' is {end}; a region begins before it ends")
    return _Region(start, end, None if text is None else place.text(value, "text"))


def _answers(regions: list[_Region], context: str, place: Place) -> list[dict[str, Any]]:
    units = list(accumulate(1 + (ord(character) > 0xFFFF) for character in context))
    in_characters = [
        region._replace(start=_characters(units, region.start), end=_characters(units, region.end))
        for region in regions
    ]
    # what fits neither way is left for the audit to find
    regions = regions if not _fit(in_characters, context) and _fit(regions, context) else in_characters
    answers = []
    for start, end, text in regions:
        read = context[start:end] if text is None else text
        if not read.strip():
            raise place.error(f"a region from {start} to {end} holds no text, in a text of {len(context):,} characters")
        answers.append({"text": read, "answer_start": start})
    return answers


def _fit(regions: list[_Region], context: str) -> bool:
    return all(context.startswith(text or "", start) for start, _, text in regions)


def _characters(units: list[int], place: int) -> int:
    """Place in characters of a place in UTF-16 units. `units`: those up to the end of each character."""
    return bisect_left(units, place) + 1 if units and 0 < place <= units[-1] else place


LABEL_STUDIO = Layout(NAME, ("id", "data", "annotations"), _is_own, _rows)
