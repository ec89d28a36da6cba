"""python docs/images/make_stages.py

Writes docs/images/stages.svg: the stages of the package, and the same four windows as padded rows and as one packed row.
"""

from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("stages.svg")
WIDTH = 920

STAGES = [
    ("data", "files -> questions", "-> windows"),
    ("batching", "windows -> rows,", "padded or packed"),
    ("models", "checkpoint", "-> span model"),
    ("training", "loss, steps,", "best model"),
    ("inference", "logits -> spans", "-> answers"),
    ("evaluation", "answers", "-> EM and F1"),
]
"""Folder of qa_accel/, and two lines on what it does."""

WINDOWS = [("#4c78a8", 150), ("#f58518", 384), ("#54a24b", 90), ("#b279a2", 210)]
"""Colour and tokens."""
SCALE = 880 / sum(tokens for _, tokens in WINDOWS)
"""Pixels per token: the packed row fills the picture's width."""


def picture() -> str:
    longest, real = max(tokens for _, tokens in WINDOWS), sum(tokens for _, tokens in WINDOWS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 356" width="{WIDTH}" height="356" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        "<title>Stages of qa-accel; padded and packed batches</title>",
        f'<rect width="{WIDTH}" height="356" fill="#ffffff"/>',
    ]
    for place, (folder, *lines) in enumerate(STAGES):
        left = 20 + place * 148
        parts.append(f'<rect x="{left}" y="20" width="132" height="78" rx="6" fill="#eef2f7" stroke="#5b6b7f"/>')
        parts.append(_text(left + 66, 43, folder, "middle", bold=True))
        parts += [_text(left + 66, 65 + 18 * row, line, "middle") for row, line in enumerate(lines)]
        if place + 1 < len(STAGES):
            parts.append(
                f'<path d="M{left + 134} 59 h8 m-4 -4 l5 4 l-5 4" fill="none" stroke="#5b6b7f" stroke-width="1.5"/>'
            )
    computed = longest * len(WINDOWS)
    parts.append(_text(20, 136, f"padded: {len(WINDOWS)} rows of {longest} tokens; {real} of {computed:,} are real"))
    for row, (colour, tokens) in enumerate(WINDOWS):
        top = 148 + 30 * row
        parts.append(_row(20, top, longest, "#e3e3e3"))
        parts.append(_row(20, top, tokens, colour))
    parts.append(_text(20, 296, f"packed: 1 row of {real} tokens; attention is computed within each window only"))
    left = 20.0
    for colour, tokens in WINDOWS:
        parts.append(_row(left, 308, tokens, colour))
        left += tokens * SCALE
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _row(left: float, top: int, tokens: int, colour: str) -> str:
    width = tokens * SCALE
    return f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="24" fill="{colour}" stroke="#ffffff"/>'


def _text(left: int, top: int, text: str, anchor: str = "start", *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{left}" y="{top}" text-anchor="{anchor}"{weight} fill="#1f2933">{escape(text)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
