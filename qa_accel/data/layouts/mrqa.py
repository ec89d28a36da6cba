"""MRQA's shared task, also its Natural Questions, NewsQA and others: a header line, then a paragraph per line.

The spans of `detected_answers` are characters of the context and include their last one (mrqa/MRQA-Shared-Task-2019,
README.md). An answer is listed with each place where it occurs, and aliases repeat places. The task's scorer compares
with `answers`, the accepted texts, whether or not the context holds them (mrqa_official_eval.py).
"""

from collections.abc import Iterator
from typing import Any

from qa_accel.data.gold_answers import ACCEPTED
from qa_accel.data.layouts.layout import File, Layout, NotedRow, Place
from qa_accel.data.layouts.squad import paragraph_questions
from qa_accel.messages import shown

NAME = "MRQA"


def _is_own(element: dict[str, Any]) -> bool:
    questions = element.get("qas")
    marked = isinstance(questions, list) and any(
        isinstance(question, dict) and ("detected_answers" in question or "qid" in question) for question in questions
    )
    return marked or element.keys() == {"header"}


def _rows(element: dict[str, Any], position: int, file: File) -> Iterator[NotedRow]:
    if element.keys() == {"header"}:  # the first line, and others where files were joined
        return
    place = file.place(NAME, f"paragraph {position}")
    for note, values in paragraph_questions(element, place):
        accepted = values.get("answers")
        if isinstance(accepted, list) and accepted and all(isinstance(text, str) for text in accepted):
            values[ACCEPTED] = values.pop("answers")
        if "detected_answers" in values:
            values["answers"] = _answers(values, place)
        yield note, values | {"id": values.get("qid", values.get("id"))}


def _answers(values: dict[str, Any], place: Place) -> list[dict[str, Any]]:
    """Each place once, in the file's order; the text as the context has it."""
    context, found = values.get("context"), {}
    try:
        for detected in values["detected_answers"]:
            for first, last in detected["char_spans"]:
                read = context[first : last + 1]  # type: ignore[index]
                # detected without regard to case and punctuation; another text is left for the audit to find
                text = read if _letters(read) == _letters(detected["text"]) else detected["text"]
                found.setdefault((first, text), {"text": text, "answer_start": first})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise place.error(
            f"'detected_answers' is {shown(values['detected_answers'])}; MRQA has "
            '[{"text": ..., "char_spans": [[first, last]]}] there, and a context that is text'
        ) from error
    return list(found.values())


def _letters(text: str) -> str:
    """What two spellings of an answer share; all of it if it has neither letters nor digits."""
    folded = text.casefold()
    return "".join(filter(str.isalnum, folded)) or folded.strip()


MRQA = Layout(NAME, ("context", "qas"), _is_own, _rows, version=1)
