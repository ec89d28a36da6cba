"""A figure of a report -> a matplotlib figure, and its pixels: for trackers that show images.

Drawn through objects with the Agg canvas: no window, and no state of pyplot that another user of matplotlib could see.
"""

import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qa_accel.reporting import blocks
from qa_accel.terminal import visible

if TYPE_CHECKING:  # an optional package
    from matplotlib.figure import Figure as Drawing

WIDTH, HEIGHT, DOTS_PER_INCH = 800, 500, 100
"""Pixels of every image."""
FEW_POINTS = 20
"""Of a line, below which each has a mark."""
MOST_NAMES = 30
"""Names of categories below an axis; of more, every second or third is shown."""


def draw(figure: blocks.Figure) -> "Drawing":
    """The figure as matplotlib draws it, WIDTH x HEIGHT. Needs matplotlib."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(WIDTH / DOTS_PER_INCH, HEIGHT / DOTS_PER_INCH), dpi=DOTS_PER_INCH, layout="constrained")
    axes = drawing.subplots()
    places = _places(figure.curves)
    bars = [curve for curve in figure.curves if curve.style == "bars"]
    for number, curve in enumerate(figure.curves):
        x = [places[str(value)] for value in curve.x] if places else [float(value) for value in curve.x]
        look: dict[str, Any] = {"color": f"C{number % 10}", "label": _text(curve.name, 40)}
        if curve.style == "bars":
            width = 0.8 * _spacing(bars, places) / len(bars)
            shift = (bars.index(curve) - (len(bars) - 1) / 2) * width
            axes.bar([value + shift for value in x], _numbers(curve.y), width, **look)
        elif curve.style == "dots":
            axes.plot(x, _numbers(curve.y), "o", markersize=4, **look)
            if curve.y_low:
                axes.vlines(x, _numbers(curve.y_low), _numbers(curve.y_high), color=look["color"])
        else:
            if curve.style == "band":
                axes.fill_between(
                    x, _numbers(curve.y_low), _numbers(curve.y_high), color=look["color"], alpha=0.2, linewidth=0
                )
            marker = "." if len(x) < FEW_POINTS else ""  # a line through one point is nothing to see
            axes.plot(x, _numbers(curve.y), "--" if curve.dashed else "-", marker=marker, **look)
    for number, (name, place) in enumerate(figure.marks.items()):
        axes.axvline(place, color="0.4", linestyle=(":", "-.", "--")[number % 3], label=_text(name, 40))
    _finish(figure, drawing, axes, places)
    return drawing


def pixels(drawing: "Drawing") -> np.ndarray:
    """(HEIGHT, WIDTH, 3) of uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(drawing)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the font lacks many scripts; a box stands for the letter
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _finish(figure: blocks.Figure, drawing: "Drawing", axes: Any, places: Mapping[str, int]) -> None:
    """Titles, scales, names of categories, legend and note."""
    axes.set_title(_text(figure.title, 90))
    axes.set_xlabel(_text(figure.x_title, 90))
    axes.set_ylabel(_text(figure.y_title, 60))
    if figure.x_log:
        axes.set_xscale("log")
    if figure.y_range is not None:
        axes.set_ylim(*figure.y_range)
    if places:
        every = math.ceil(len(places) / MOST_NAMES)
        shown = list(places.items())[::every]
        slanted = {"rotation": 60, "ha": "right", "rotation_mode": "anchor", "size": "small"} if len(shown) > 6 else {}
        axes.set_xticks([place for _, place in shown], [_text(name, 24) for name, _ in shown], **slanted)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    if len(figure.curves) + len(figure.marks) > 1:
        axes.legend(fontsize="small")
    if figure.note:
        lines = textwrap.wrap(_text(figure.note, 360), 120)
        drawing.supxlabel("\n".join(lines), fontsize="small", color="0.3")


def _places(curves: Sequence[blocks.Curve]) -> dict[str, int]:
    """Category -> its place on the axis, in the order in which they come; empty where all x are numbers."""
    values = [value for curve in curves for value in curve.x]
    if not any(isinstance(value, str) for value in values):
        return {}
    return {name: place for place, name in enumerate(dict.fromkeys(map(str, values)))}


def _spacing(bars: Sequence[blocks.Curve], places: Mapping[str, int]) -> float:
    """The smallest distance of two bars of one curve."""
    if places:
        return 1.0
    x = np.unique([float(value) for curve in bars for value in curve.x])
    return float(np.diff(x).min()) if len(x) > 1 else 1.0


def _numbers(values: Sequence[float | None]) -> list[float]:
    """What is missing or infinite becomes a gap."""
    return [math.nan if value is None or not math.isfinite(value) else float(value) for value in values]


def _text(text: str, most: int) -> str:
    """One short line without formulas: matplotlib takes what is between two dollars for one."""
    line = visible(" ".join(text.split()))
    line = line if len(line) <= most else line[: most - 1] + "…"
    return line.replace("$", r"\$")
