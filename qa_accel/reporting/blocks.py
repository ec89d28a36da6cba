"""What a report is made of, apart from how it is shown: sections of texts, tables and figures, and the questions to browse.

`contents` builds it, `html_page` writes it as one HTML file, `trackers` sends its figures to TensorBoard and W&B. All text is
plain text: whoever shows it escapes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Cell: TypeAlias = str | int | float | None
MOST_POINTS = 200
"""Points of one curve. What has more is aggregated before it is drawn."""


@dataclass(frozen=True)
class Text:
    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Code:
    """Lines to copy: a command, settings."""

    text: str


@dataclass(frozen=True)
class Tile:
    """One large number."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Table:
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    filters: Sequence[Mapping[str, str] | None] = ()
    """Of each row what it shows in the question explorer, or None: {"kind": id}, {"slice": "family=value"}, or {"id": id} for one
    question, which counts only where the explorer has it. Empty: no row has one."""
    open: bool = True
    """False: folded, with the caption as what is seen."""
    detail_columns: int = 0
    """How many of the last columns only a page has room for: a console leaves them out."""


@dataclass(frozen=True)
class Curve:
    """One series of a figure. Lists of equal length, at most MOST_POINTS."""

    name: str
    x: Sequence[float | str]
    y: Sequence[float | None]
    style: str = "line"
    """line, dots (with `y_low` and `y_high`: with whiskers), bars (of categories: texts as `x`), or band (with `y_low` and `y_high`,
    filled between)."""
    y_low: Sequence[float] = ()
    y_high: Sequence[float] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    id: str
    """Letters, digits and hyphens: a name within the file and in trackers."""
    title: str
    x_title: str
    y_title: str
    curves: Sequence[Curve]
    marks: Mapping[str, float] = field(default_factory=dict)
    """Vertical lines: label -> x, a finite number near the curves: the axis shows all of it."""
    note: str = ""
    """What to see in it, a sentence or two; also the figure's text for screen readers."""
    y_range: tuple[float, float] | None = None
    x_log: bool = False
    """The axis has powers of ten at equal distances. For numbers above 0, and a figure without marks."""


@dataclass(frozen=True)
class Axis:
    """An upright axis of parallel coordinates."""

    name: str
    ticks: Sequence[tuple[float, str]]
    """(place, label) from bottom to top; places from 0 to 1."""


@dataclass(frozen=True)
class Line:
    """One thing in parallel coordinates."""

    name: str
    """What is shown of it on hover."""
    places: Sequence[float | None]
    """Of each axis, from 0 to 1; None: the line has a gap there."""
    group: int
    """Place in the figure's groups, which gives its colour."""


@dataclass(frozen=True)
class ParallelLines:
    """Parallel coordinates: an axis for each number, a line for each thing that has them. The page has a table of the same."""

    id: str
    title: str
    axes: Sequence[Axis]
    groups: Sequence[str]
    """Names, at most 6."""
    lines: Sequence[Line]
    """At most MOST_POINTS. Later ones are drawn over earlier ones."""
    note: str = ""


Block: TypeAlias = Text | Code | Tiles | Table | Figure | ParallelLines


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Explorer:
    """The questions that a reader of the report can browse."""

    total: int
    """Questions of the data, of which `questions` holds some."""
    chosen: str
    """How they were chosen, a sentence."""
    threshold: float | None
    """Null odds above which the answer is ""; None where every question has an answer."""
    kinds: Sequence[tuple[str, str, int]]
    """(id, name, number in all of the data) of each kind of answer, in the order to show."""
    families: Sequence[tuple[str, str, Sequence[str]]]
    """(id, name, values) of each family of slices."""
    contexts: Sequence[str]
    """Texts that `questions` refer to; of long ones the parts around the spans, joined."""
    questions: Sequence[Mapping[str, Any]]
    """What tells most comes first: where not all of them fit, the last ones are left out.

    id, question, title       text
    row                       place in the data, from 0
    context                   index into `contexts`
    left_out                  [[place, count], ...]: `count` characters of the data's context are left out at `place`, a place in
                              the embedded context, 0 and its length included; in the order of places
    gold                      [[start, end, text], ...] in Python characters of the embedded context; [] = no answer; start and
                              end are None where the place is not known
    predicted                 {"text", "start", "end"}; text "" = no answer
    kind                      id of a kind
    slices                    {family id: value}
    exact, f1                 0 to 1
    null_odds                 number; None where they decide nothing
    confidence                number or None
    nbest                     [{"text", "probability", "confidence" (or None)}, ...], at most 5; text "" = no answer
    windows                   [[start, end], ...] of each window that has embedded characters, in these; a border among characters
                              that are left out is at their place
    other                     of a comparison: {"text", "start", "end", "kind", "exact", "f1"} of the other run, else None
    flip                      "better" or "worse": this run against the other; None where both are right or both wrong
    """
    names: tuple[str, str] | None = None
    """Of a comparison: what this run and the other are called."""


@dataclass(frozen=True)
class Report:
    title: str
    subtitle: str
    sections: Sequence[Section]
    explorer: Explorer | None = None
