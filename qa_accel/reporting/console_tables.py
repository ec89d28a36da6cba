"""A report's section -> rich tables and lines on the console."""

from rich.console import Console
from rich.table import Table as ConsoleTable
from rich.text import Text as ConsoleText

from qa_accel.reporting.blocks import Code, Figure, Section, Table, Text, Tiles
from qa_accel.terminal import visible


def print_section(console: Console, section: Section) -> None:
    """All of it but its figures."""
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
            assert isinstance(block, Figure), "every kind of block is shown or left out on purpose"


def console_table(table: Table) -> ConsoleTable:
    """Columns of numbers to the right."""
    shown = ConsoleTable(title=ConsoleText(visible(table.caption)), title_justify="left")
    for place, column in enumerate(table.columns):
        numeric = all(_is_numeric(row[place]) for row in table.rows)
        shown.add_column(ConsoleText(visible(column)), justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(ConsoleText("" if cell is None else visible(str(cell))) for cell in row))
    return shown


def _is_numeric(cell: object) -> bool:
    """Empty cells do not decide."""
    return cell in ("", None) or str(cell).replace("%", "").replace(",", "").strip("< +-").replace(".", "", 1).isdigit()
