"""Windows that wait, of all requests -> the next batch. Fair in both directions.

Each window has a moment from which it is due, and the one that is due first is computed first. A request's first window is due
when the request comes; each further one later by 1 / SHARE times the duration of those before it. So the windows of a long document
lie far apart: a short request that comes after it is due before most of them. And no window waits forever: only those are
ahead of it that came before its own moment, whatever comes later. Where nothing else waits, a document has all batches for itself.

Windows of a batch have like lengths, since a batch costs its longest window times their number: beside the first one in the
queue a batch takes those of the next LOOKAHEAD that are nearest to it in length.
"""

from bisect import insort
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from qa_accel.serving.jobs import Job

if TYPE_CHECKING:
    from qa_accel.inference.reader_backends import ReaderModel

SHARE = 0.25
"""Of the computing time that one request gets, at least, and about as much as it takes from others."""
LOOKAHEAD = 64
"""Windows among which a batch's are chosen."""


CPU_TOKENS = 1024
"""Of a batch: larger ones take as long per window on a CPU, and those in them wait longer (docs/serving.md)."""


def batch_tokens(model: "ReaderModel") -> int:
    """Tokens of a full batch, padding included, where no setting says so."""
    return CPU_TOKENS if str(model.device) == "cpu" else model.batch_size * model.windows.max_seq_length


class Waiting(NamedTuple):
    due: float
    """Seconds, of the clock that `put` is given."""
    serial: int
    """Order of arrival: no two are equal, so what follows is never compared."""
    tokens: int
    job: Job
    window: int
    """Place among the job's windows."""


class WindowQueue:
    """Used by one thread at a time."""

    def __init__(self):
        self._waiting: list[Waiting] = []  # sorted; some thousand at most
        self._serial = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def tokens_due(self, now: float) -> int:
        """Of the windows that are ahead of a request that comes now; most of a long document's are not."""
        return sum(entry.tokens for entry in self._waiting if entry.due <= now)

    def put(self, jobs: Collection[Job], now: float, seconds_per_token: float) -> None:
        """The jobs of one request, window after window."""
        due = now
        for job in jobs:
            if job.windows is None:
                continue
            for window, tokens in enumerate(job.windows.lengths_W.tolist()):
                insort(self._waiting, Waiting(due, self._serial, tokens, job, window))
                self._serial += 1
                due += tokens * seconds_per_token / SHARE

    def remove(self, jobs: Collection[Job]) -> None:
        """Windows that nobody waits for any more."""
        self._waiting = [entry for entry in self._waiting if entry.job not in jobs]

    def take(self, max_tokens: int | None = None) -> list[Waiting]:
        """The next batch, all for one model; at least one window if any waits. `max_tokens`: the model's own if not given."""
        if not self._waiting:
            return []
        first = self._waiting[0]
        model = first.job.model
        room = max_tokens or batch_tokens(model)
        others = [entry for entry in self._waiting[1:LOOKAHEAD] if entry.job.model is model]
        others.sort(key=lambda entry: abs(entry.tokens - first.tokens))  # stable: equally near ones in order of due
        batch, widest = [first], first.tokens
        for entry in others:
            wider = max(widest, entry.tokens)
            if wider * (len(batch) + 1) > room:
                break
            batch.append(entry)
            widest = wider
        taken = {entry.serial for entry in batch}
        ahead = [entry for entry in self._waiting[:LOOKAHEAD] if entry.serial not in taken]
        self._waiting[:LOOKAHEAD] = ahead
        return batch
