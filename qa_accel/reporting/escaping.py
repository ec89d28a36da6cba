"""Text -> text within HTML."""

import html

from qa_accel.terminal import visible


def escaped(text: object) -> str:
    """One line of text for HTML, in elements and attributes."""
    return html.escape(visible(text))
