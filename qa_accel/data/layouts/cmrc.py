"""CMRC 2018 as its authors published it: paragraphs whose answers have no offsets (ymcui/cmrc2018, data/cmrc2018_trial.json).

Each answer is taken at its first place in the context.
"""

from collections.abc import Iterator
from typing import Any

from qa_accel.data.layouts.layout import File, Layout, NotedRow
from qa_accel.data.layouts.squad import paragraph_questions

NAME = "CMRC 2018"


def _is_own(element: dict[str, Any]) -> bool:
    questions = element.get("qas")
    return isinstance(questions, list) and any(
        isinstance(question, dict) and "query_text" in question for question in questions
    )


def _rows(element: dict[str, Any], position: int, file: File) -> Iterator[NotedRow]:
    for note, values in paragraph_questions(element, file.place(NAME, f"paragraph {position}")):
        context, answers = values.get("context_text"), values.get("answers")
        if isinstance(context, str) and isinstance(answers, list) and all(isinstance(text, str) for text in answers):
            # -1 is no place: the audit lists an answer that the context does not hold
            answers = [{"text": text, "answer_start": context.find(text)} for text in answers]
        read = {"id": values.get("query_id"), "question": values.get("query_text"), "context": context}
        yield note, values | read | ({} if answers is None else {"answers": answers})


CMRC = Layout(NAME, ("context_id", "context_text", "qas", "title"), _is_own, _rows)
