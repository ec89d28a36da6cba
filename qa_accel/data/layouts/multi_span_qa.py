"""MultiSpanQA: question and context as lists of tokens, the answers as a BIO label per token; its test file has no labels.

Tokens are joined by one blank, and an I behind an O begins an answer, as in haonan-li/MultiSpanQA (src/eval_script.py).
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from qa_accel.data.layouts.layout import File, Layout, NotedRow, Place
from qa_accel.messages import shown

NAME = "MultiSpanQA"


def _is_own(element: dict[str, Any]) -> bool:
    return isinstance(element.get("context"), list) and isinstance(element.get("question"), list)


def _rows(element: dict[str, Any], position: int, file: File) -> Iterator[NotedRow]:
    place = file.place(NAME, f"question {position}")
    question, context = _tokens(element, "question", place), _tokens(element, "context", place)
    values = {"id": element.get("id"), "question": " ".join(question), "context": " ".join(context)}
    if element.get("label") is not None:
        values["answers"] = _answers(context, place.list(element, "label"), place)
    yield place.where, values


def _tokens(element: dict[str, Any], key: str, place: Place) -> list[str]:
    tokens = place.list(element, key)
    for token in tokens:
        if not isinstance(token, str):
            raise place.error(f"{key!r} holds {shown(token)}; {NAME} has a list of tokens there, each a text")
    return tokens


def _answers(tokens: list[str], labels: list[Any], place: Place) -> list[dict[str, Any]]:
    if len(labels) != len(tokens):
        raise place.error(f"{len(tokens)} tokens in 'context', but {len(labels)} in 'label'; each token has a label")
    start_T = [0, *accumulate(len(token) + 1 for token in tokens)]
    answers: list[dict[str, Any]] = []
    before = "O"
    for token, start, label in zip(tokens, start_T, labels):
        if label not in ("B", "I", "O"):
            raise place.error(f"'label' holds {shown(label)}; {NAME} has B, I or O for each token")
        if label == "B" or (label, before) == ("I", "O"):
            answers.append({"text": token, "answer_start": start})
        elif label == "I":
            answers[-1]["text"] += f" {token}"
        before = label
    return answers


MULTI_SPAN_QA = Layout(NAME, ("id", "question", "context", "label", "num_span"), _is_own, _rows)
