"""NewsQA's combined JSON (Maluuba/newsqa): stories of all three splits in one file, each with its questions.

A question's `consensus` is a span, whose end is the character behind it, "noAnswer" or "badQuestion". Of a span, the
blanks around it do not count. The id is the story's, "#" and the question's number from 0, as MRQA has it.
"""

from collections.abc import Iterator
from typing import Any

from qa_accel.data.layouts.layout import File, Layout, NotedRow, Place
from qa_accel.messages import shown

NAME = "NewsQA's combined JSON"
TYPES = {"train": "train", "validation": "dev", "test": "test"}
"""Split -> the type of its stories."""


def _is_own(element: dict[str, Any]) -> bool:
    return isinstance(element.get("questions"), list) and ("storyId" in element or "text" in element)


def _rows(element: dict[str, Any], position: int, file: File) -> Iterator[NotedRow]:
    place = file.place(NAME, f"story {position}")
    story, text, type = (place.text(element, key) for key in ("storyId", "text", "type"))
    if type not in TYPES.values():
        raise place.error(f"'type' is {shown(type)}; {NAME} has train, dev or test there")
    wanted = TYPES.get(file.split or "", type)
    if type != wanted:
        reason = f"stories of type {type}, since --{file.split}_file takes those of type {wanted}"
        return file.leave_out(reason, story)
    for number, (inner, question) in enumerate(place.objects(element, "questions", "question")):
        key, consensus = f"{story}#{number}", inner.object(question.get("consensus"))
        if consensus.get("badQuestion"):
            file.leave_out("questions that are bad by consensus", key)
            continue
        answers = [] if consensus.get("noAnswer") else [_answer(consensus, text, inner)]
        if None in answers:
            file.leave_out("questions whose consensus is a span without text", key)
            continue
        yield inner.where, {"id": key, "question": question.get("q"), "context": text, "answers": answers}


def _answer(consensus: dict[str, Any], text: str, place: Place) -> dict[str, Any] | None:
    start, end = place.whole(consensus, "s"), place.whole(consensus, "e")
    span = text[start:end] if 0 <= start < end else ""
    blanks = len(span) - len(span.lstrip())
    return {"text": span.strip(), "answer_start": start + blanks} if span.strip() else None


NEWSQA = Layout(NAME, ("storyId", "text", "type", "questions"), _is_own, _rows, by_split=True)
