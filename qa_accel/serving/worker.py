"""One thread that computes: it loads the models, then forms batches of the windows that wait, until it is to stop.

Jobs come from the event loop's thread, and results go back through each job's future. An error in here is nobody's request's:
the worker ends, every job that it has accepted fails at once, and so does the process.
"""

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import replace
from threading import Condition, Thread
from typing import TYPE_CHECKING

import numpy as np

from qa_accel.data.window_selection import joined
from qa_accel.serving.jobs import Job, WorkerEnded
from qa_accel.serving.metrics import Metrics
from qa_accel.serving.refusal import Refusal
from qa_accel.serving.settings import LimitsConfig
from qa_accel.serving.window_queue import Waiting, WindowQueue, batch_tokens

if TYPE_CHECKING:
    from qa_accel.inference.reader import Reader
    from qa_accel.inference.reader_backends import ReaderModel

WARM_UP = ("Which word is it?", "word " * 20_000)
"""A question and a context of more windows than a batch has."""
NEWEST = 0.2
"""Weight of the newest batch in the duration of a token."""


class Worker:
    """`readers` is filled when `ready` is True; `error` is set when it ended by one."""

    def __init__(self, load: Callable[[], Mapping[str, "Reader"]], limits: LimitsConfig, metrics: Metrics):
        """`load`: gives the models by name; called by the thread, since it takes seconds."""
        self._load, self.limits, self.metrics = load, limits, metrics
        self.readers: Mapping[str, Reader] = {}
        self.ready = False
        self.error: BaseException | None = None
        self.seconds_per_token = 0.0
        self.batch_began: float | None = None
        self._queue, self._changed = WindowQueue(), Condition()
        self._accepted: set[Job] = set()
        self._stopping = self._ended = False
        self._thread = Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """End when nothing waits any more. Whether it did, within so many seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting_windows(self) -> int:
        return len(self._queue)

    @property
    def seconds_to_wait(self) -> float:
        """Until a request that comes now is begun."""
        return self._queue.tokens_due(time.monotonic()) * self.seconds_per_token

    def submit(self, jobs: Collection[Job]) -> None:
        """Accept the jobs of one request, all or none. Raises Refusal where there is no room for them."""
        windows, most = sum(map(len, jobs)), self.limits.max_queue_windows
        if windows > (share := max(1, most // 2)):  # one request does not fill the queue
            raise Refusal(
                413, f"the texts make {windows} windows; expected at most {share}: send shorter or fewer texts"
            )
        with self._changed:
            if self._ended:
                raise WorkerEnded
            if len(self._queue) + windows > most:
                raise Refusal(429, f"{len(self._queue)} windows wait already, try again later", self.seconds_to_wait)
            if self.seconds_to_wait > self.limits.deadline_seconds / 2:
                raise Refusal(
                    429, f"what waits takes {self.seconds_to_wait:.0f} s, try again later", self.seconds_to_wait / 2
                )
            self._accepted.update(job for job in jobs if len(job))
            self._queue.put(jobs, time.monotonic(), self.seconds_per_token)
            self._changed.notify()
        for job in jobs:
            if not len(job):
                job.done.set_result(None)

    def cancel(self, jobs: Collection[Job]) -> None:
        """Windows of these that are not computed yet will not be."""
        with self._changed:
            self._accepted.difference_update(jobs)
            self._queue.remove(jobs)

    def fail_all(self) -> None:
        """Once the thread is gone, whoever waits for it hears so."""
        with self._changed:
            self.ready, self._ended = False, True
            lost, self._accepted = self._accepted, set()
            self._queue = WindowQueue()
        for job in lost:
            with suppress(InvalidStateError):  # cancelled just now
                job.done.set_exception(WorkerEnded())

    def _run(self) -> None:
        try:
            self.readers = self._load()
            for reader in self.readers.values():
                for model in reader.members:
                    self._warm_up(model)
            self.ready = True
            while batch := self._next():
                self._compute(batch)
        except BaseException as error:  # whatever it is, nothing is computed any more: the process must hear of it
            self.error = error
        finally:
            self.fail_all()

    def _warm_up(self, model: "ReaderModel") -> None:
        """One full window, then a full batch, as the first requests would else pay for: memory, kernels, compilation."""
        made = model.prepare([WARM_UP])
        longest = int(made.lengths_W.max())
        room = self.limits.max_batch_tokens or batch_tokens(model)
        for count in (1, max(1, room // longest)):
            windows = joined([(made, np.arange(count) % len(made))])
            began = time.monotonic()
            model.candidates(windows, model.spans, count)
            self.seconds_per_token = (time.monotonic() - began) / int(windows.begin_W[-1])

    def _next(self) -> list[Waiting]:
        """Wait for windows; no window: it is time to stop."""
        with self._changed:
            while not len(self._queue):
                if self._stopping:
                    return []
                # now and then, since an exception that is sent to this thread does not end a wait
                self._changed.wait(0.2)
            return self._queue.take(self.limits.max_batch_tokens)

    def _compute(self, batch: list[Waiting]) -> None:
        self.batch_began = began = time.monotonic()
        model = batch[0].job.model
        places: dict[Job, list[int]] = {}
        for entry in batch:
            places.setdefault(entry.job, []).append(entry.window)
        index_of = {job: np.array(windows) for job, windows in places.items()}
        windows = joined([(job.windows, index_W) for job, index_W in index_of.items() if job.windows is not None])
        n_best = max(job.spans.n_best_size for job in index_of)
        candidates = model.candidates(windows, replace(model.spans, n_best_size=n_best), len(batch))
        first = 0
        for job, index_W in index_of.items():
            job.put(index_W, candidates, np.arange(first, first + len(index_W)))
            first += len(index_W)
        assert first == len(batch), "every window of the batch went to its job"
        seconds, tokens = time.monotonic() - began, int(windows.begin_W[-1])
        self.seconds_per_token += NEWEST * (seconds / tokens - self.seconds_per_token)
        self.metrics.batch(len(batch), tokens, seconds)
        self.batch_began = None
        self._hand_over([job for job in index_of if job.missing == 0])

    def _hand_over(self, jobs: Collection[Job]) -> None:
        """Those that were cancelled meanwhile have left `_accepted`."""
        with self._changed:
            whole = [job for job in jobs if job in self._accepted]
            self._accepted.difference_update(whole)
        for job in whole:
            with suppress(InvalidStateError):  # cancelled just now
                job.done.set_result(None)
