"""A corpus's folder + a model -> its missing pieces, one after the other; no word is exchanged with other ranks.

A rank takes its own pieces first, then whatever nobody has taken, until none is left: the pieces of a rank that died or is
slow are done by the others, and only what a dead one had in work is computed again.
"""

import contextlib
import logging
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from qa_accel.data.windows import Windows
from qa_accel.distributed.ranks import Rank
from qa_accel.inference import corpus_worker
from qa_accel.inference.corpus_folder import CorpusFolder, NamedPiece
from qa_accel.inference.corpus_worker import Work
from qa_accel.inference.postprocess import Candidates

logger = logging.getLogger(__name__)

MOST_WORKERS = 8
"""Unless more are requested: about as many as one GPU keeps busy."""


@dataclass
class Done:
    """What this process has computed so far."""

    pieces: int = 0
    questions: int = 0
    windows: int = 0
    seconds: float = 0.0
    """Since the first windows were there."""
    computing: float = 0.0
    """Of these, in the model; the rest of the time it waited for windows."""


def answer_pieces(
    folder: CorpusFolder,
    rank: Rank,
    work: Work,
    compute: Callable[[Windows], Candidates],
    tick: Callable[[Done], None],
    *,
    workers: int,
) -> Done:
    """Compute pieces until none is left that this process could take. All but the pieces in work of other processes are then
    there.

    `compute` may raise to stop; `tick` too, which is called at least once a second while nothing is computed. The pieces in
    work are dropped then. Raises ValueError or OSError for what a worker was refused, with file and row.
    """
    done = Done()
    todo = claimed(folder, rank, lambda: tick(done))
    first = next(todo, None)
    if first is None:
        return done
    crew = _Crew(replace(work, tag=folder.tag), workers)
    try:
        _serve(crew, folder, _chain(first, todo), compute, tick, done)
    finally:
        crew.end()
        folder.drop_all()
    return done


def default_workers(rank: Rank, device: str) -> int:
    """Processes that tokenize and write for one rank. A CPU's cores are the model's, and one worker is ahead of it."""
    if device == "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, cores // rank.on_this_host - 1))


def claimed(folder: CorpusFolder, rank: Rank, tick: Callable[[], None] = lambda: None) -> Iterator[NamedPiece]:
    """Pieces to compute, each claimed: this rank's share in order, then others' from the end, until none can be had.

    The own share's finished pieces are looked at for damage, with a `tick` before each, which may raise to stop.
    """
    there = folder.done()
    for piece in folder.pieces[rank.number :: rank.count]:
        if piece.name in there:
            tick()
            damage = folder.remove_if_damaged(piece)
            if damage is None:
                continue
            logger.warning("%s is damaged (%s): it is computed again", folder.path / piece.name, damage)
        if folder.claim(piece):
            yield piece
    some = True
    while some:  # again, since a claim may have become free: a process has died
        some, there = False, folder.done()
        for piece in reversed([piece for piece in folder.pieces if piece.name not in there]):
            if folder.claim(piece):
                some = True
                yield piece


def _chain(first: NamedPiece, rest: Iterator[NamedPiece]) -> Iterator[NamedPiece]:
    yield first
    yield from rest


def _serve(
    crew: "_Crew",
    folder: CorpusFolder,
    todo: Iterator[NamedPiece],
    compute: Callable[[Windows], Candidates],
    tick: Callable[[Done], None],
    done: Done,
) -> None:
    began = None
    while crew.working:
        received = crew.receive()
        tick(done)
        if received is None:
            continue
        worker, (kind, *content) = received
        if kind == "next":
            piece = next(todo, None)
            crew.send(worker, *(("end",) if piece is None else ("piece", piece)))
        elif kind == "windows":
            now = time.monotonic()
            began = began or now
            crew.send(worker, "candidates", compute(content[0]))
            done.computing += time.monotonic() - now
            done.seconds = time.monotonic() - began
        elif kind == "slower":
            if not crew.is_slower:
                name = type(crew.tokenizer).__name__
                logger.warning(
                    "%s: questions are tokenized together with their contexts, which is slower: %s", name, *content
                )
            crew.is_slower = True
        elif kind == "done":
            name, counts = content
            folder.claims.give_back(name)
            done.pieces += 1
            done.questions += counts["questions"]
            done.windows += counts["windows"]
        elif kind == "bye":
            crew.working.discard(worker)
        elif kind == "refused":
            raise ValueError(content[0])
        elif worker in crew.working:
            raise RuntimeError(content[0] if content else "a process that tokenizes was killed (out of memory?)")


class _Crew:
    """The workers of one rank, each with a thread here that takes what it sends."""

    def __init__(self, work: Work, workers: int):
        # forked, so that nothing is imported or loaded again; they use neither torch nor the device
        context = multiprocessing.get_context("fork")
        self.tokenizer = work.tokenizer
        self.is_slower = False
        """Whether a worker has found that it cannot compose a pair of its two texts."""
        self._messages: queue.PriorityQueue[tuple[int, int, int, Any]] = queue.PriorityQueue()
        self._number = count()
        self._connections: list[Connection] = []
        self._processes = []
        for _ in range(workers):
            own, their = context.Pipe()
            self._connections.append(own)
            process = context.Process(
                target=corpus_worker.run, args=(work, their, list(self._connections)), daemon=True
            )
            process.start()
            their.close()
            self._processes.append(process)
        self.working = set(range(workers))
        for worker in range(workers):
            threading.Thread(target=self._listen, args=(worker,), daemon=True).start()

    def receive(self) -> tuple[int, Any] | None:
        """A worker and its message; None after a second without any. Windows come last: the others cost no time."""
        try:
            _, _, worker, message = self._messages.get(timeout=1)
        except queue.Empty:
            return None
        return worker, message

    def send(self, worker: int, *message: Any) -> None:
        # a dead worker is reported by its thread, and so is what it may have sent before it left
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connections[worker].send(message)

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def _listen(self, worker: int) -> None:
        message: Any = ("",)
        while message[0] not in ("bye", "refused", "failed", "lost"):
            try:
                message = self._connections[worker].recv()
            except (EOFError, OSError):
                message = ("lost",)
            self._messages.put((message[0] == "windows", next(self._number), worker, message))
