"""The layouts that are read: which one an element has, its rows, and what an unknown one resembles."""

from collections.abc import Collection, Iterator
from typing import Any

from qa_accel.data.layouts.bioasq import BIOASQ
from qa_accel.data.layouts.cmrc import CMRC
from qa_accel.data.layouts.label_studio import LABEL_STUDIO
from qa_accel.data.layouts.layout import File, Layout, NotedRow
from qa_accel.data.layouts.mrqa import MRQA
from qa_accel.data.layouts.multi_span_qa import MULTI_SPAN_QA
from qa_accel.data.layouts.newsqa import NEWSQA
from qa_accel.data.layouts.squad import ARTICLES, PARAGRAPHS
from qa_accel.messages import listed, shown

LAYOUTS = (ARTICLES, MRQA, CMRC, PARAGRAPHS, NEWSQA, MULTI_SPAN_QA, LABEL_STUDIO, BIOASQ)
"""In the order in which an element is tried: MRQA and CMRC are paragraphs with marks."""
ROW = '{"id": ..., "question": ..., "context": ..., "answers": [{"text": ..., "answer_start": ...}]}'
ROW_KEYS = ("id", "question", "context", "answers")


def layout_of(element: Any) -> Layout | None:
    """None for what can only be a row."""
    if not isinstance(element, dict):
        return None
    return next((layout for layout in LAYOUTS if layout.is_own(element)), None)


def element_rows(element: Any, position: int, file: File) -> Iterator[NotedRow]:
    """The rows of one element, each with its place in the element. `position`: of the element, from 1."""
    if not isinstance(element, dict):
        raise ValueError(f"{file.path}: row {position} is {shown(element)}; an object with columns is expected")
    layout = layout_of(element)
    if position == 1:
        file.first = layout
    if layout is None:
        _refuse_keyed(element, position, file)
        yield "", element
        return
    if (layout.by_split or layout.version) and layout is not file.first:  # the cache knows both by the first element
        raise ValueError(
            f"{file.path}: row {position} has {layout.name}, but row 1 has not; keep layouts in separate files"
        )
    yield from layout.rows(element, position, file)


def nearest(found: Collection[str]) -> str:
    """What columns that are no question's resemble, with the difference; what a row is, if they resemble nothing."""
    shared = {layout: sum(key in found for key in layout.keys) for layout in LAYOUTS}
    best = max(LAYOUTS, key=shared.__getitem__)  # the first of equals
    if shared[best] <= sum(key in found for key in ROW_KEYS):
        return f"a row that is always read is {ROW}"
    lacking = [key for key in best.keys if key not in found]
    return (
        f"the nearest layout that is read is {best.name}, whose elements have {listed(best.keys)}: here "
        f"{listed(lacking)} {'is' if len(lacking) == 1 else 'are'} missing; a row that is always read is {ROW}"
    )


def _refuse_keyed(element: dict[str, Any], position: int, file: File) -> None:
    """Raises ValueError for an object of lists and objects, with the way to convert it."""
    if not element or not all(isinstance(value, list | dict) for value in element.values()):
        return
    first = next(iter(element.values()))
    drop = isinstance(first, dict) and "qa_pairs" in first
    remedy = (
        "this is DROP's layout: take the questions whose answer is one span of the passage, and find its answer_start"
        if drop
        else f'nested SQuAD or rows may be in a list or under the key "data"; {nearest(element)}'
    )
    raise ValueError(
        f"{file.path}: row {position} has the keys {listed(element)}, which hold lists and objects alone; "
        f"a question is expected{f', as {ROW}' if drop else ''}; {remedy}"
    )
