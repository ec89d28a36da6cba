"""An element of a JSON file -> its questions as rows. The layouts that are read:

- rows: the element is a question;
- nested SQuAD: an article with "paragraphs", each with "qas";
- a paragraph with "qas" and no article around it (simpletransformers, KorQuAD 2);
- MRQA: the same, with "detected_answers" whose spans include their last character, after a header line;
- CMRC 2018: the same, with "query_text" and answers without offsets, which are looked up in "context_text".
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qa_accel.messages import listed, quoted, shown

ROW = '{"id": ..., "question": ..., "context": ..., "answers": [{"text": ..., "answer_start": ...}]}'


def json_rows(element: Any, position: int, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of one element, each with its place in the element."""
    if not isinstance(element, dict):
        raise ValueError(f"{path}: row {position} is {shown(element)}; an object with columns is expected")
    if "paragraphs" in element:
        title = element.get("title")
        article = f"article {position} {quoted(title)}" if title is not None else f"article {position}"
        shared = {"title": title} if title is not None else {}
        for number, paragraph in enumerate(_list(element, "paragraphs", path, article), start=1):
            note = f"{article}, paragraph {number}"
            yield from _questions(_object(paragraph, path, note), shared, path, note)
    elif "qas" in element:
        yield from _questions(element, {}, path, f"paragraph {position}")
    elif position > 1 or element.keys() != {"header"}:  # MRQA's first line
        _refuse_other_layouts(element, position, path)
        yield "", element


def _questions(
    paragraph: dict[str, Any], shared: dict[str, Any], path: Path, note: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    # A paragraph's own id would otherwise be taken as the id of a question without one.
    common = {key: value for key, value in paragraph.items() if key not in ("qas", "id")} | shared
    for question in _list(paragraph, "qas", path, note):
        values = {**common, **_object(question, path, note)}
        if "detected_answers" in values:
            values |= _from_mrqa(values, path, note)
        elif "query_text" in values:
            values |= _from_cmrc(values)
        yield note, values


def _from_mrqa(values: dict[str, Any], path: Path, note: str) -> dict[str, Any]:
    context = values.get("context")
    answers = []
    try:
        for detected in values["detected_answers"]:
            for first, last in detected["char_spans"]:
                text, found = detected["text"], context[first : last + 1]  # type: ignore[index]
                # the text was matched without regard to case; one that is not there is left for the audit to find
                answers.append({"text": found if found.casefold() == text.casefold() else text, "answer_start": first})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: {note}: 'detected_answers' is {shown(values['detected_answers'])}; MRQA has "
            '[{"text": ..., "char_spans": [[first, last]]}] there, and a context that is text'
        ) from error
    return {"id": values.get("qid", values.get("id")), "answers": answers}


def _from_cmrc(values: dict[str, Any]) -> dict[str, Any]:
    context, answers = values.get("context_text"), values.get("answers")
    if isinstance(context, str) and isinstance(answers, list) and all(isinstance(text, str) for text in answers):
        # -1 is no place: the audit lists an answer that the context does not hold
        answers = [{"text": text, "answer_start": context.find(text)} for text in answers]
    read = {"id": values.get("query_id"), "question": values["query_text"], "context": context}
    return read | ({} if answers is None else {"answers": answers})


def _refuse_other_layouts(element: dict[str, Any], position: int, path: Path) -> None:
    """Raises ValueError for what cannot be a question, with the way to convert it."""
    if isinstance(element.get("data"), dict) and ("annotations" in element or "completions" in element):
        raise ValueError(
            f"{path}: row {position} is a task of Label Studio's export, which is not read; write a row {ROW} for each "
            "question: the texts are under data, the answers under annotations, result, value (text and start)"
        )
    if element and all(isinstance(value, list | dict) for value in element.values()):
        first = next(iter(element.values()))
        drop = isinstance(first, dict) and "qa_pairs" in first
        remedy = (
            "this is DROP's layout: take the questions whose answer is one span of the passage, and find its answer_start"
            if drop
            else 'nested SQuAD or rows may be in a list or under the key "data"'
        )
        raise ValueError(
            f"{path}: row {position} has the keys {listed(element)}, which hold lists and objects alone; "
            f"a question is expected, as {ROW}; {remedy}"
        )


def _list(holder: dict[str, Any], key: str, path: Path, where: str) -> list[Any]:
    if not isinstance(holder.get(key), list):
        raise ValueError(f"{path}: {where}: {key!r} is {shown(holder.get(key))}; nested SQuAD has a list there")
    return holder[key]


def _object(value: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {where}: found {shown(value)}; nested SQuAD has an object there")
    return value
