"""A column of a table -> its texts, and whether they are numbers: for pages and consoles alike."""

import math
import re
from collections.abc import Sequence

from qa_accel.reporting.blocks import Cell

_NUMBER = r"[-+−±<>≤≥≈~]?\s?\d[\d.,\s%±×/:()\[\]–-]*(?:e[-+]?\d+)?%?\s?(?:s|ms|h|min|[kMG]i?B)?"
NUMBER_IN_WORDS = re.compile(rf"{_NUMBER}(?: to {_NUMBER})?")
"""A cell of text that is a number with its unit or interval, and is set as numbers are."""


def column_texts(cells: Sequence[Cell]) -> tuple[bool, list[str]]:
    """Whether a column holds numbers, and its texts; its floats have the same number of decimals."""
    floats = [abs(cell) for cell in cells if isinstance(cell, float) and math.isfinite(cell)]
    largest = max(floats, default=0.0)
    decimals = 1 if largest >= 1000 else 2 if largest >= 10 else 3 if largest >= 1 else 4
    texts = [_text(cell, decimals) for cell in cells]
    filled = [cell for cell in cells if cell is not None and cell != ""]
    numeric = bool(filled) and all(not isinstance(cell, str) or NUMBER_IN_WORDS.fullmatch(cell) for cell in filled)
    return numeric, texts


def _text(cell: Cell, decimals: int) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    rounded = f"{cell:,.{decimals}f}"
    return f"{cell:.3g}" if cell and not float(rounded.replace(",", "")) else rounded  # never 0.0000 for a small number
