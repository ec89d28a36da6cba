"""A long context and the spans to mark in it -> the parts that are worth showing, and where places are among them."""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_CHARACTERS = 3000
LONG_SPAN = 400
"""Characters of a span of which more is not shown than its two ends, half of this each."""
MOST_SPANS = 6
SMALLEST_GAP = 80
"""Characters that it is worth to leave out."""


@dataclass(frozen=True)
class Passage:
    context: str
    parts: Sequence[tuple[int, int]]
    """[start, end) in characters of the context, in order; they do not touch."""

    @classmethod
    def around(cls, context: str, spans: Sequence[tuple[int, int]]) -> "Passage":
        """All of a short context; of a long one MOST_CHARACTERS at most, equally much around each span. MOST_SPANS at most."""
        assert len(spans) <= MOST_SPANS, "the parts of more spans do not fit"
        if len(context) <= MOST_CHARACTERS:
            return cls(context, [(0, len(context))])
        spans = [part for span in spans for part in _ends(*span)] or [(0, 0)]
        narrow, wide = 0, MOST_CHARACTERS
        while narrow + 1 < wide:
            margin = (narrow + wide) // 2
            if _characters(_parts(spans, margin, len(context))) <= MOST_CHARACTERS:
                narrow = margin
            else:
                wide = margin
        return cls(context, _parts(spans, narrow, len(context)))

    @property
    def text(self) -> str:
        return "".join(self.context[start:end] for start, end in self.parts)

    @property
    def left_out(self) -> list[list[int]]:
        """[place in `text`, number of characters] of each gap."""
        ends = [0, *(end for _, end in self.parts)]
        starts = [*(start for start, _ in self.parts), len(self.context)]
        return [[self.place(start), start - end] for end, start in zip(ends, starts) if start > end]

    def place(self, place: int) -> int:
        """A place of the context within `text`: how many shown characters are before it."""
        return sum(max(0, min(place, end) - start) for start, end in self.parts)

    def span(self, start: int | None, end: int | None) -> list[int | None]:
        """[start, end] within `text`; None, None where it is not known or an end is not shown."""
        if start is None or end is None or start >= end or not (self._shows(start) and self._shows(end - 1)):
            return [None, None]
        return [self.place(start), self.place(end)]

    def _shows(self, place: int) -> bool:
        return any(start <= place < end for start, end in self.parts)


def _ends(start: int, end: int) -> list[tuple[int, int]]:
    half = LONG_SPAN // 2
    return [(start, end)] if end - start <= LONG_SPAN else [(start, start + half), (end - half, end)]


def _parts(spans: Sequence[tuple[int, int]], margin: int, length: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        start, end = max(0, start - margin), min(length, end + margin)
        if found and start < found[-1][1] + SMALLEST_GAP:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _characters(parts: Sequence[tuple[int, int]]) -> int:
    return sum(end - start for start, end in parts)
