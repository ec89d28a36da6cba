"""Sections of a report -> their HTML. All text is escaped, and characters that nobody would see are written out."""

import html
import json
import re
from collections.abc import Collection, Mapping, Sequence

from qa_accel.reporting.blocks import Block, Code, Explorer, Figure, ParallelLines, Section, Table, Text, Tiles
from qa_accel.reporting.escaping import escaped
from qa_accel.reporting.parallel_svg import parallel_html
from qa_accel.reporting.table_cells import column_texts
from qa_accel.terminal import visible_lines


def section_html(section: Section, explorer: Explorer | None) -> str:
    """Its warnings come first, before what they warn of. Rows of tables filter the questions of `explorer`."""
    held = None if explorer is None else {question["id"] for question in explorer.questions}
    warnings = [block for block in section.blocks if isinstance(block, Text) and block.is_warning]
    others = [block for block in section.blocks if not (isinstance(block, Text) and block.is_warning)]
    parts = [_block_html(block, held) for block in (*warnings, *others)]
    name = escaped(section.id)
    heading = f'<h2 id="{name}-title">{escaped(section.title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">\n{heading}\n' + "\n".join(parts) + "\n</section>"


def warnings_of(section: Section) -> int:
    return sum(isinstance(block, Text) and block.is_warning for block in section.blocks)


def _block_html(block: Block, held: Collection[str] | None) -> str:
    if isinstance(block, Text):
        return _text_html(block)
    if isinstance(block, Code):
        text = html.escape(visible_lines(block.text))
        return f'<div class="code"><button type="button" class="copy">Copy</button><pre tabindex="0" role="region" aria-label="Lines to copy">{text}</pre></div>'
    if isinstance(block, Tiles):
        return _tiles_html(block)
    if isinstance(block, Figure):
        return _figure_html(block)
    if isinstance(block, ParallelLines):
        return parallel_html(block)
    return _table_html(block, held)


def _text_html(block: Text) -> str:
    lines = html.escape(visible_lines(block.text))
    if block.is_warning:
        return f'<div class="warning" role="note"><strong>Warning</strong><p dir="auto">{lines}</p></div>'
    return "\n".join(f'<p class="text" dir="auto">{part}</p>' for part in re.split(r"\n{2,}", lines))


def _tiles_html(block: Tiles) -> str:
    tiles = [
        f"<div><dt>{escaped(tile.name)}</dt><dd><b>{escaped(tile.value)}</b>"
        + (f"<small>{escaped(tile.note)}</small>" if tile.note else "")
        + "</dd></div>"
        for tile in block.tiles
    ]
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _figure_html(figure: Figure) -> str:
    """The page's script draws into it, and fills the table when it is opened."""
    title, note = escaped(figure.title), html.escape(visible_lines(figure.note))
    spoken = f"{title}. {escaped(figure.note)}" if note else title
    return (
        f'<figure id="figure-{escaped(figure.id)}"><figcaption><h3>{title}</h3>{f"<p>{note}</p>" if note else ""}</figcaption>'
        f'<div class="plot" role="img" aria-label="{spoken}" data-figure="{escaped(figure.id)}"></div>'
        f'<details class="data"><summary>Data as a table<span class="unseen">: {title}</span></summary></details></figure>'
    )


def _table_html(table: Table, held: Collection[str] | None) -> str:
    """`held`: ids of the questions that can be shown; None where there is no explorer."""
    assert not table.filters or len(table.filters) == len(table.rows), (
        f"{table.caption}: a filter for each row, or none"
    )
    formats = (
        [column_texts(cells) for cells in zip(*table.rows)] if table.rows else [(False, []) for _ in table.columns]
    )
    head = "".join(
        f'<th scope="col"{_right(numeric)}>{escaped(name)}</th>' for name, (numeric, _) in zip(table.columns, formats)
    )
    head = f"<thead><tr>{head}</tr></thead>" if any(table.columns) else ""
    filters = [filter if _works(filter, held) else None for filter in table.filters] or [None] * len(table.rows)
    body = "\n".join(_row_html(row, formats, filters[row]) for row in range(len(table.rows)))
    caption = escaped(table.caption)
    label = f'role="region" aria-label="{caption}" tabindex="0"'
    visible_caption = f"<caption>{caption}</caption>" if table.open else f'<caption class="unseen">{caption}</caption>'
    held = f'<div class="scroll" {label}><table>{visible_caption}{head}<tbody>\n{body}\n</tbody></table></div>'
    return held if table.open else f'<details class="folded"><summary>{caption}</summary>{held}</details>'


def _works(filter: Mapping[str, str] | None, held: Collection[str] | None) -> bool:
    return filter is not None and held is not None and ("id" not in filter or filter["id"] in held)


def _row_html(row: int, formats: Sequence[tuple[bool, list[str]]], filter: Mapping[str, str] | None) -> str:
    cells = []
    for place, (numeric, texts) in enumerate(formats):
        text = escaped(texts[row])
        if place == 0 and filter is not None:
            value = html.escape(json.dumps(dict(filter)))
            text = (
                f'<button type="button" class="filter" data-filter="{value}">{text}'
                f'<span class="unseen">: show {"this question" if "id" in filter else "these questions"}</span></button>'
            )
        tag = 'th scope="row"' if place == 0 else "td"
        cells.append(f'<{tag}{_right(numeric)} dir="auto">{text}</{tag[:2]}>')
    return f"<tr>{''.join(cells)}</tr>"


def _right(numeric: bool) -> str:
    return ' class="number"' if numeric else ""
