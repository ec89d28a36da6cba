"""What all ranks have finished, read from the folder -> a line for the console: share, rates, time left."""

import time
from collections.abc import Callable

from qa_accel.inference import corpus_table
from qa_accel.inference.corpus_folder import CorpusFolder


class CorpusProgress:
    """Of all processes that fill the folder, whoever started them. Reads each new piece's footer once."""

    def __init__(self, folder: CorpusFolder, clock: Callable[[], float] = time.monotonic):
        self._folder, self._clock, self._began = folder, clock, clock()
        self._weight = {piece.name: max(1, piece.piece.weight) for piece in folder.pieces}
        self._total = sum(self._weight.values())
        self._seen = self._here()
        self._weight_before = self._done_weight()
        self._new = dict.fromkeys(corpus_table.COUNTS, 0)

    @property
    def share(self) -> float:
        """Of the input's bytes."""
        return self._done_weight() / self._total

    def line(self, own_windows: int) -> str:
        """`own_windows`: computed by this process, pieces in work included."""
        here = self._here()
        for name in here - self._seen:
            try:
                counts = corpus_table.counts_of(self._folder.path / name)
            except ValueError:  # removed, or damaged since
                continue
            self._new = {key: number + counts[key] for key, number in self._new.items()}
        self._seen = here
        seconds = max(1e-3, self._clock() - self._began)
        text = f"{len(here):,} of {len(self._weight):,} pieces ({100 * self.share:.1f} %)"
        fresh = self._done_weight() - self._weight_before
        if fresh > 0:
            left = (self._total - self._done_weight()) * seconds / fresh
            text += f", {self._new['windows'] / seconds:,.0f} windows/s, {self._new['questions'] / seconds:,.0f} questions/s"
            text += f", {duration(left)} left"
        return f"{text}; this process {own_windows / seconds:,.0f} windows/s"

    def _here(self) -> set[str]:
        return self._folder.done() & self._weight.keys()

    def _done_weight(self) -> int:
        return sum(self._weight[name] for name in self._seen)


def duration(seconds: float) -> str:
    """Two units at most: `3 d 4 h`, `2 h 5 min`, `40 s`."""
    minutes, hours = divmod(round(seconds), 60)[0], divmod(round(seconds), 3600)[0]
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{round(seconds)} s"
