"""Parallel coordinates -> SVG within HTML, drawn without a script.

Plotly draws such figures only with WebGL and code that is made when the page runs, which the page's policy forbids.
"""

import re
from collections.abc import Sequence

from qa_accel.reporting.blocks import MOST_POINTS, Axis, Line, ParallelLines
from qa_accel.reporting.escaping import escaped
from qa_accel.terminal import visible_lines

APART, TALL = 150, 260
"""Units, at least a pixel each: from axis to axis, and the height of an axis."""
LEFT, RIGHT, BOTTOM = 90, 30, 14
LINE_HEIGHT = 16
IN_TITLE, IN_TICK = 18, 13
"""Characters of a line of an axis's name, and of a tick's label."""


def parallel_html(figure: ParallelLines) -> str:
    """The figure with its legend; every line tells its name on hover."""
    assert len(figure.lines) <= MOST_POINTS, f"{figure.id}: what has more lines is aggregated before it is drawn"
    titles = [_broken(axis.name) for axis in figure.axes]
    top = LINE_HEIGHT * max(map(len, titles), default=1) + 14
    width, height = LEFT + APART * max(len(figure.axes) - 1, 1) + RIGHT, top + TALL + BOTTOM
    lines = "\n".join(_line(line, top) for line in figure.lines)
    axes = "\n".join(_axis(place, axis, titles[place], top) for place, axis in enumerate(figure.axes))
    title, note = escaped(figure.title), "\n".join(map(escaped, visible_lines(figure.note).split("\n")))
    return (
        f'<figure id="figure-{escaped(figure.id)}" class="parallel"><figcaption><h3>{title}</h3>{f"<p>{note}</p>" if note else ""}'
        f'</figcaption><div class="wide" role="region" aria-label="{title}" tabindex="0">'
        f'<svg viewBox="0 0 {width} {height}" style="min-width: {width}px" role="img" aria-label="{title}. {escaped(figure.note)}">\n'
        f"{lines}\n{axes}\n</svg></div>{_legend(figure.groups)}</figure>"
    )


def _line(line: Line, top: int) -> str:
    """Drawn twice: once to be seen, once broad and unseen, to be hit by a pointer. A place between two gaps is a dot."""
    path, pen = "", "M"
    for number, place in enumerate(line.places):
        if place is None:
            pen = "M"
            continue
        x, y = LEFT + APART * number, round(top + TALL * (1 - place), 1)
        alone = pen == "M" and (number + 1 == len(line.places) or line.places[number + 1] is None)
        path += f"{pen}{x} {y}" + ("h0.1" if alone else "")
        pen = "L"
    return f'<g class="group-{line.group}"><title>{escaped(line.name)}</title><path d="{path}"/><path class="hit" d="{path}"/></g>'


def _axis(number: int, axis: Axis, title: Sequence[str], top: int) -> str:
    x = LEFT + APART * number
    first = top - 12 - LINE_HEIGHT * (len(title) - 1)
    spans = "".join(
        f'<tspan x="{x}" y="{first + LINE_HEIGHT * place}">{escaped(part)}</tspan>' for place, part in enumerate(title)
    )
    ticks = "".join(
        f'<path d="M{x - 4} {y}h4"/><text class="tick" x="{x - 7}" y="{y + 4}">{escaped(_cut(label))}</text>'
        for y, label in ((round(top + TALL * (1 - place), 1), label) for place, label in axis.ticks)
    )
    return f'<g class="axis"><path d="M{x} {top}v{TALL}"/>{ticks}<text class="name">{spans}</text></g>'


def _legend(groups: Sequence[str]) -> str:
    entries = "".join(
        f'<li class="group-{number}"><svg viewBox="0 0 30 8" aria-hidden="true"><path d="M0 4h30"/></svg>{escaped(name)}</li>'
        for number, name in enumerate(groups)
    )
    return f'<ul class="legend">{entries}</ul>'


def _broken(name: str) -> list[str]:
    """A setting's name in short lines, broken after underscores and blanks where that will do."""
    lines = [""]
    for part in re.findall(r"[^_\s]*[_\s]?", name)[:20]:
        while len(part) > IN_TITLE:
            lines += [part[:IN_TITLE], ""]
            part = part[IN_TITLE:]
        if len(lines[-1] + part) > IN_TITLE:
            lines.append("")
        lines[-1] += part
    return [line for line in lines if line][:4] or [""]


def _cut(label: str) -> str:
    return label if len(label) <= IN_TICK else label[: IN_TICK - 1] + "…"
