"""What the page's script reads: figures and questions -> JSON within HTML.

Python counts Unicode characters, JavaScript counts units of UTF-16, of which an emoji has two: places in contexts are given
in the latter. Questions that would make the file too large are left out, the last ones first.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from qa_accel.reporting.blocks import Explorer, Figure
from qa_accel.reporting.plots import plotly_figure

_ESCAPED = re.compile("[<>&\u007f-\u009f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""In a script of JSON: what could end the script, what cannot be written as UTF-8, what cannot be seen in a source."""


def figures_data(figures: Sequence[Figure]) -> dict[str, Any]:
    return {figure.id: plotly_figure(figure) for figure in figures}


def explorer_data(explorer: Explorer) -> dict[str, Any]:
    """The explorer as JSON holds it, with places in units of UTF-16."""
    units = [_units(context) for context in explorer.contexts]
    return {
        "total": explorer.total,
        "chosen": explorer.chosen,
        "threshold": explorer.threshold,
        "kinds": [list(kind) for kind in explorer.kinds],
        "families": [[id, name, list(values)] for id, name, values in explorer.families],
        "names": list(explorer.names) if explorer.names is not None else None,
        "contexts": list(explorer.contexts),
        "questions": [_in_units(question, units[question["context"]]) for question in explorer.questions],
    }


def fitting(explorer: Explorer, most_bytes: int) -> Explorer:
    """The explorer with as many of its questions, from the first on, as take so many bytes of JSON."""
    seen: set[int] = set()
    kept, used = 0, script_bytes(explorer_data(replace(explorer, contexts=(), questions=())))
    for question in explorer.questions:
        place: int = question["context"]
        context = explorer.contexts[place]
        used += script_bytes(_in_units(question, _units(context))) + 1
        if place not in seen:
            used += script_bytes(context) + 1
            seen.add(place)
        if used > most_bytes:
            break
        kept += 1
    if kept == len(explorer.questions):
        return explorer
    questions = explorer.questions[:kept]
    places = {
        place: number for number, place in enumerate(dict.fromkeys(question["context"] for question in questions))
    }
    return replace(
        explorer,
        contexts=[explorer.contexts[place] for place in places],
        questions=[{**question, "context": places[question["context"]]} for question in questions],
    )


def script_bytes(value: Any) -> int:
    """What `script_json` takes in the page."""
    return len(script_json(value).encode())


def script_json(value: Any) -> str:
    """JSON that may be the content of a script element. Numbers that JSON lacks become texts."""
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value


def _units(context: str) -> list[int] | None:
    """Of each place in a context, its units of UTF-16; None where they are the same."""
    if not context or max(context) <= "\uffff":
        return None
    return list(accumulate((1 + (character > "\uffff") for character in context), initial=0))


def _in_units(question: Mapping[str, Any], units: list[int] | None) -> dict[str, Any]:
    if units is None:
        return dict(question)

    def place(number: int | None) -> int | None:
        return None if number is None else units[max(0, min(number, len(units) - 1))]

    def moved(span: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if span is None:
            return None
        return {**span, "start": place(span.get("start")), "end": place(span.get("end"))}

    return {
        **question,
        "left_out": [[place(at), count] for at, count in question["left_out"]],
        "gold": [[place(start), place(end), text] for start, end, text in question["gold"]],
        "predicted": moved(question["predicted"]),
        "windows": [[place(start), place(end)] for start, end in question["windows"]],
        "other": moved(question.get("other")),
    }
