"""A report's section -> rich tables and lines on the console, as readable at 80 columns."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as ConsoleTable
from rich.text import Text as ConsoleText

from qa_accel.reporting.blocks import Code, Figure, ParallelLines, Section, Table, Text, Tiles
from qa_accel.reporting.table_cells import column_texts
from qa_accel.terminal import visible

LONGEST_WHOLE_WORD = 14
"""Characters of a word that a column has room for."""


def print_section(console: Console, section: Section) -> None:
    """All of it but its figures, and of tables the columns that a console has room for."""
    console.print(ConsoleText(visible(section.title), "bold"))
    for block in section.blocks:
        if isinstance(block, Table):
            console.print(console_table(block))
        elif isinstance(block, Tiles):
            console.print(ConsoleText("   ".join(f"{tile.name} {tile.value} ({tile.note})" for tile in block.tiles)))
        elif isinstance(block, Text):
            console.print(ConsoleText(visible(block.text), "yellow" if block.is_warning else ""))
        elif isinstance(block, Code):
            console.print(ConsoleText(visible(block.text)))
        else:
            assert isinstance(block, Figure | ParallelLines), "every kind of block is shown or left out on purpose"


def console_table(table: Table) -> ConsoleTable:
    """Numbers are to the right and never folded. Texts are folded, in all columns but the first between words."""
    shown = ConsoleTable(
        title=ConsoleText(visible(table.caption)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    kept = len(table.columns) - table.detail_columns
    columns = []
    for place, name in enumerate(map(visible, table.columns[:kept])):
        numeric, texts = column_texts([row[place] for row in table.rows])
        texts = [visible(text) for text in texts]
        columns.append(texts)
        look: dict[str, Any]
        if numeric:
            look = {"justify": "right", "width": max(_longest_word([name]), *map(cell_len, texts))}
        else:
            look = {"overflow": "fold", "min_width": _longest_word([name, *texts]) if place else None}
        shown.add_column(ConsoleText(name), **look)
    for cells in zip(*columns):
        shown.add_row(*map(ConsoleText, cells))
    return shown


def _longest_word(texts: Sequence[str]) -> int:
    return min(LONGEST_WHOLE_WORD, max(cell_len(word) for text in texts for word in (text.split() or [""])))
