"""BioASQ's task B: questions with snippets and answers without offsets -> a row per question and snippet.

Only factoid and list questions have answers that are spans. An item of `exact_answer` is a text or a list of synonyms; a list of
texts is that of the items of a list question, and of the synonyms of a factoid's one item. An item is in a snippet if one of its texts occurs there once, as whole words, else without regard to case. A snippet with an
item that occurs several times is left out, since nobody knows which place was meant, and so is one that holds no item,
since it may answer in other words. Questions of a test file have no `exact_answer`.
"""

import re
from collections.abc import Iterator
from typing import Any

from qa_accel.data.layouts.layout import File, Layout, NotedRow, Place
from qa_accel.messages import shown

NAME = "BioASQ"
READ, NOT_READ = ("factoid", "list"), ("yesno", "summary")


def _is_own(element: dict[str, Any]) -> bool:
    return (
        "body" in element and "question" not in element and bool({"type", "snippets", "exact_answer"} & element.keys())
    )


def _rows(element: dict[str, Any], position: int, file: File) -> Iterator[NotedRow]:
    place = file.place(NAME, f"question {position}")
    key, type = place.text(element, "id"), place.text(element, "type")
    if type in NOT_READ:
        return file.leave_out(f"questions of type {type}, whose answer is no span", key)
    if type not in READ:
        raise place.error(f"'type' is {shown(type)}; {NAME} has one of {', '.join(READ + NOT_READ)} there")
    if not element.get("snippets"):
        return file.leave_out("questions without a snippet", key)
    items = None if element.get("exact_answer") is None else _items(element["exact_answer"], type, place)
    several = len(place.list(element, "snippets")) > 1
    for number, (inner, snippet) in enumerate(place.objects(element, "snippets", "snippet"), start=1):
        name, context = f"{key}_{number:03}" if several else key, inner.text(snippet, "text")
        values = {"id": name, "question": element["body"], "context": context}
        if items is None:
            yield inner.where, values
            continue
        answers, repeated = _found(items, context)
        if repeated:
            file.leave_out("snippets in which an answer occurs several times", name)
        elif not answers:
            file.leave_out("snippets that hold no answer word by word", name)
        else:
            yield inner.where, values | {"answers": answers}


def _items(exact: Any, type: str, place: Place) -> list[list[str]]:
    """The synonyms of each item."""
    items = [exact] if isinstance(exact, str) else exact
    if type == "factoid" and isinstance(items, list) and all(isinstance(item, str) for item in items):
        items = [items]
    if isinstance(items, list):
        items = [[item] if isinstance(item, str) else item for item in items]
        if all(isinstance(item, list) and all(isinstance(text, str) for text in item) for item in items):
            return [[text.strip() for text in item if text.strip()] for item in items]
    raise place.error(
        f"'exact_answer' is {shown(exact)}; {NAME} has a text, or a list of texts or of lists of them there"
    )


def _found(items: list[list[str]], context: str) -> tuple[list[dict[str, Any]], bool]:
    """The answers, and whether some item occurs several times and none of its synonyms once."""
    answers, repeated = {}, False
    for synonyms in items:
        places = [_places(text, context) for text in synonyms]
        for found in places:
            if len(found) == 1:
                answers[found[0]] = {"text": context[slice(*found[0])], "answer_start": found[0][0]}
        lengths = {len(found) for found in places}
        repeated |= 1 not in lengths and max(lengths, default=0) > 1
    return list(answers.values()), repeated


def _places(text: str, context: str) -> list[tuple[int, int]]:
    """Where a text is in a context, as whole words: as it is spelled, or in any case if it is nowhere so."""
    pattern = rf"(?<!\w){re.escape(text)}(?!\w)"
    return next(
        (spans for flags in (0, re.IGNORECASE) if (spans := [m.span() for m in re.finditer(pattern, context, flags)])),
        [],
    )


BIOASQ = Layout(NAME, ("id", "type", "body", "snippets", "exact_answer"), _is_own, _rows)
