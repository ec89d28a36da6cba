"""A figure of a report -> plotly's data and layout as plain dicts that are valid JSON.

No colour is fixed here: `meta.series` of a trace numbers its curve, and the page colours it for the scheme of the moment.
Plotly obeys some markup in texts, so theirs is escaped. Numbers keep six digits, which is more than a screen shows.
"""

import html
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from qa_accel.reporting.blocks import Curve, Figure
from qa_accel.terminal import visible

PATTERNS = ("", "/", "x", ".", "\\", "+")
"""Of bars, by number of the curve: what tells them apart without colour."""
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
"""Of dots, likewise."""
LABEL_STEP = 18
"""Pixels by which the label of a vertical line is above that of the line before it: close ones must not overlap."""
BAR_HEIGHT = 20
"""Pixels of a bar that goes from left to right, and of the space after its category."""
LABEL_WIDTH = 16
"""Characters of a line of a category's name beside its bar."""


def plotly_figure(figure: Figure) -> dict[str, Any]:
    """{"data": traces, "layout": layout}. A band is three traces, its two borders and its middle, each with a name.

    Bars of categories go from left to right, where the categories' names have room on a narrow screen.
    """
    assert all(map(math.isfinite, figure.marks.values())), f"{figure.id}: a mark has a place on the axis"
    assert not (figure.marks and figure.x_log), f"{figure.id}: labels of marks have no place on a logarithmic axis"
    traces = [trace for number, curve in enumerate(figure.curves) for trace in _traces(number, curve)]
    named = [trace for trace in traces if trace["showlegend"]]
    lines = any(trace["type"] == "scatter" and "lines" in trace["mode"] for trace in traces)
    layout: dict[str, Any] = {
        "xaxis": _axis(figure.x_title) | {"type": _x_type(figure)} | (_log_ticks(figure) if figure.x_log else {}),
        "yaxis": _axis(figure.y_title)
        | {"type": "linear"}
        | ({"range": list(figure.y_range)} if figure.y_range else {}),
        "hovermode": "x unified" if lines else "closest",
        "barmode": "group",
        "showlegend": len(named) > 1,
        "legend": {
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
            "traceorder": "normal",
        },
        "margin": {"l": 8, "r": 12, "t": 12 + LABEL_STEP * len(figure.marks), "b": 8},
        "shapes": [_line(x) for x in figure.marks.values()],
        "annotations": _labels(figure),
    }
    if _has_categories(figure) and all(curve.style == "bars" for curve in figure.curves):
        return _turned(traces, layout)
    return {"data": traces, "layout": layout}


def _turned(traces: list[dict[str, Any]], layout: dict[str, Any]) -> dict[str, Any]:
    turned = [trace | {"x": trace["y"], "y": trace["x"], "orientation": "h"} for trace in traces]
    names = list(dict.fromkeys(name for trace in traces for name in trace["x"]))
    lines = ["<br>".join(map(_text, textwrap.wrap(html.unescape(str(name)), LABEL_WIDTH))) for name in names]
    categories = {
        "autorange": "reversed",
        "tickmode": "array",
        "tickvals": names,
        "ticktext": lines,
    }  # the first on top
    axes = {"xaxis": layout["yaxis"] | {"tickangle": 0, "nticks": 5}, "yaxis": layout["xaxis"] | categories}
    height = 110 + BAR_HEIGHT * max(len(traces) + 1, 2) * len(names)
    return {"data": turned, "layout": layout | axes | {"height": height}}


def _traces(number: int, curve: Curve) -> list[dict[str, Any]]:
    if curve.style == "bars":
        return [_trace(number, curve, "bar", marker={"pattern": {"shape": PATTERNS[number % len(PATTERNS)]}})]
    if curve.style == "dots":
        symbol = {"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 8}
        whiskers = {"error_y": _whiskers(curve)} if curve.y_low else {}
        return [_trace(number, curve, "scatter", mode="markers", marker=symbol, **whiskers)]
    assert curve.style in ("line", "band"), f"{curve.name}: a curve has no style {curve.style!r}"
    line = {"width": 2, "dash": "dash" if curve.dashed else "solid"}
    # a line through one point is nothing to see
    mode = "lines+markers" if len(curve.x) < 2 else "lines"
    middle = _trace(number, curve, "scatter", mode=mode, line=line)
    return [*_borders(number, curve), middle] if curve.style == "band" else [middle]


def _borders(number: int, curve: Curve) -> list[dict[str, Any]]:
    plain = {"mode": "lines", "line": {"width": 0}, "showlegend": False}
    low = _trace(number, curve, "scatter", **plain) | {"name": _text(f"{curve.name}, low"), "y": _numbers(curve.y_low)}
    high = _trace(number, curve, "scatter", **plain) | {
        "name": _text(f"{curve.name}, high"),
        "y": _numbers(curve.y_high),
    }
    return [low, high | {"fill": "tonexty"}]


def _whiskers(curve: Curve) -> dict[str, Any]:
    above = [None if y is None else high - y for y, high in zip(curve.y, curve.y_high)]
    below = [None if y is None else y - low for y, low in zip(curve.y, curve.y_low)]
    return {"type": "data", "symmetric": False, "array": _numbers(above), "arrayminus": _numbers(below)}


def _trace(number: int, curve: Curve, type: str, **more: Any) -> dict[str, Any]:
    x = [_text(value) if isinstance(value, str) else _number(value) for value in curve.x]
    shared = {"type": type, "name": _text(curve.name), "x": x, "y": _numbers(curve.y), "meta": {"series": number}}
    return shared | {"showlegend": True} | more


def _axis(title: str) -> dict[str, Any]:
    numbers = {"hoverformat": ",.4~g", "separatethousands": True, "exponentformat": "e"}
    return {"title": {"text": _text(title)}, "automargin": True} | numbers


def _log_ticks(figure: Figure) -> dict[str, Any]:
    """Powers of ten; of a range of less than two of them, twice and five times these too."""
    places = [math.log10(x) for curve in figure.curves for x in curve.x if not isinstance(x, str)]
    if not places:
        return {}
    factors = (1, 2, 5) if max(places) - min(places) < 2 else (1,)
    powers = range(math.floor(min(places)), math.ceil(max(places)) + 1)
    values = [float(f"{factor}e{power}") for power in powers for factor in factors]
    return {"tickmode": "array", "tickvals": values, "ticktext": [f"{value:,g}" for value in values]}


def _x_type(figure: Figure) -> str:
    return "category" if _has_categories(figure) else "log" if figure.x_log else "linear"


def _has_categories(figure: Figure) -> bool:
    return any(isinstance(value, str) for curve in figure.curves for value in curve.x)


def _line(x: float) -> dict[str, Any]:
    place = {"xref": "x", "yref": "paper", "x0": _number(x), "x1": _number(x), "y0": 0, "y1": 1}
    return {"type": "line", "line": {"width": 1.5, "dash": "dot"}, **place}


def _labels(figure: Figure) -> list[dict[str, Any]]:
    """One above the other in the order of their lines, each towards the side that has room."""
    numbers = [value for curve in figure.curves for value in curve.x if not isinstance(value, str)]
    places = sorted([*numbers, *figure.marks.values()])
    middle = (places[0] + places[-1]) / 2 if places else 0
    ordered = sorted(figure.marks.items(), key=lambda mark: mark[1])
    return [
        {
            "text": _text(label),
            "x": _number(x),
            "xref": "x",
            "xanchor": "left" if x <= middle else "right",
            "y": 1,
            "yref": "paper",
            "yanchor": "middle",
            "showarrow": True,
            "arrowhead": 0,
            "arrowwidth": 1,
            "ax": 0,
            "ay": -LABEL_STEP * (place + 0.6),
        }
        for place, (label, x) in enumerate(ordered)
    ]


def _text(text: object) -> str:
    return html.escape(visible(text), quote=False)


def _numbers(values: Sequence[float | None]) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: float | None) -> float | None:
    """JSON has no infinities; a curve has a gap there."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
