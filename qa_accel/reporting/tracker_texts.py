"""A report -> texts in Markdown, one of each section: for TensorBoard, which shows no HTML.

All that comes from data is escaped: TensorBoard shows it literally.
"""

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from qa_accel.reporting import blocks
from qa_accel.terminal import visible, visible_lines

MOST_ROWS = 100
"""Rows of one table."""


def texts(report: blocks.Report, html_file: Path | None) -> dict[str, str]:
    """`report/0_about`, then `report/1_{id of the section}` and so on -> Markdown: TensorBoard sorts them by name."""
    about = [f"# {_literal(report.title)}", _literal(report.subtitle)]
    if html_file is not None:
        about.append(f"The whole report, with interactive plots: {_literal(str(html_file.resolve()))}")
    width = len(str(len(report.sections)))
    found = {f"report/{0:0{width}}_about": "\n\n".join(about)}
    for number, section in enumerate(report.sections, 1):
        parts = [part for block in section.blocks for part in _markdown(block)]
        found[f"report/{number:0{width}}_{section.id}"] = "\n\n".join([f"## {_literal(section.title)}", *parts])
    return found


def _markdown(block: blocks.Block) -> Iterator[str]:
    """Paragraphs."""
    if isinstance(block, blocks.Text):
        yield ("**Warning:** " if block.is_warning else "") + _literal(block.text)
    elif isinstance(block, blocks.Code):
        yield "\n".join("    " + line for line in visible_lines(block.text).split("\n"))
    elif isinstance(block, blocks.Tiles):
        yield _table(("", "", ""), [(tile.name, tile.value, tile.note) for tile in block.tiles])
    elif isinstance(block, blocks.Figure):
        yield f"Plot (under Images): {_literal(block.title)}. {_literal(block.note)}".rstrip()
    elif isinstance(block, blocks.Table):
        yield f"**{_literal(block.caption)}**"
        yield _table(block.columns, block.rows[:MOST_ROWS])
        if len(block.rows) > MOST_ROWS:
            yield f"{len(block.rows) - MOST_ROWS} more rows are in the report."


def _table(columns: Sequence[str], rows: Sequence[Sequence[blocks.Cell]]) -> str:
    lines = [_row(columns), "| --- " * len(columns) + "|"]
    return "\n".join(lines + [_row(row) for row in rows])


def _row(cells: Sequence[blocks.Cell]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(value: blocks.Cell) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else _literal(str(value))


def _literal(text: str) -> str:
    """One line that Markdown and HTML show as it is. Entities, since TensorBoard's Markdown knows few escapes."""
    line = html.escape(visible(" ".join(text.split())), quote=False)
    # anywhere; then what begins a heading, a list or a line under a heading
    return re.sub(r"[\\`*_\[\]|~$]|^[#+=-]|^\d(?=\d*[.)]\s)", lambda found: f"&#{ord(found[0])};", line)
