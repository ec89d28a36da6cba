"""A process beside a rank's: pieces of a corpus -> windows for the model; the model's candidates -> a written piece.

All work of the host on a piece is done here, so that the rank's own process does nothing but feed the device: its Python
lock is not shared with tokenizing and post-processing. While the device computes a chunk, the worker has already sent the
next one and post-processes the one before.

Messages to the rank: ("next",), ("windows", Windows), ("slower", reason), ("done", name, counts), ("refused", text), ("failed", text), ("bye",);
to the worker: ("piece", NamedPiece), ("candidates", Candidates), ("end",).
"""

import os
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel.data import corpus_rows
from qa_accel.data.corpus_rows import Chunk
from qa_accel.data.document_tokens import DocumentTokens
from qa_accel.data.pair_tokenizer import PairTokenizer
from qa_accel.data.passages import PassageTable
from qa_accel.data.settings import Columns, WindowConfig
from qa_accel.data.windows import GoldSpans, Windows
from qa_accel.distributed.signals import STOP_SIGNALS
from qa_accel.inference import corpus_table
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.corpus_folder import NamedPiece
from qa_accel.inference.corpus_table import PieceWriter
from qa_accel.inference.postprocess import Candidates, best_answers
from qa_accel.inference.settings import SpanConfig

AHEAD = 2
"""Chunks at the device or on their way to it, of each worker."""
SAMPLED = 24
"""Rows of each piece with which composed tokenizing is compared with the tokenizer's own way."""


@dataclass(frozen=True)
class Work:
    """What all pieces have in common."""

    folder: Path
    columns: Columns
    tokenizer: PreTrainedTokenizerBase
    windows: WindowConfig
    spans: SpanConfig
    version_2_with_negative: bool
    calibration: Calibration | None
    min_confidence: float | None
    nbest: bool
    passages: Path | None
    """The Arrow file of a passage table."""
    tag: str = ""
    """In the names of partial files: the rank's."""


@dataclass
class _PieceInWork:
    named: NamedPiece
    chunks: Iterator[Chunk]
    writer: PieceWriter
    stack: ExitStack
    """Closed when the piece is complete: then the file gets its name."""
    is_read: bool = False
    waiting: int = 0
    """Chunks that are at the device."""


@dataclass
class _ChunkInWork:
    piece: _PieceInWork
    chunk: Chunk
    windows: Windows


def run(work: Work, connection: Connection, inherited: Sequence[Connection]) -> None:
    """The process's main function. `inherited`: ends of pipes that belong to the rank, and must close when it dies."""
    for other in inherited:
        other.close()
    for name in ("SIGINT", *STOP_SIGNALS):  # terminals and Slurm send them to all; the rank ends its workers
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # workers are as many as there are cores for them
    worker = _Worker(work, connection, os.getppid())
    try:
        with ExitStack() as stack:
            worker.run(stack)
        worker.send("bye")
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the rank is gone
    except (ValueError, OSError) as error:
        worker.send("refused", str(error))
    except BaseException:
        worker.send("failed", traceback.format_exc())


@dataclass
class _Worker:
    work: Work
    connection: Connection
    rank_pid: int
    current: _PieceInWork | None = None
    at_device: deque[_ChunkInWork] = field(default_factory=deque)

    def __post_init__(self):
        self.pairs = PairTokenizer(self.work.tokenizer, self.work.windows)
        self.pairs.context_tokens = DocumentTokens(lambda: self.pairs.backend)
        self.passages = PassageTable(self.work.passages) if self.work.passages is not None else None

    def run(self, stack: ExitStack) -> None:
        """Work until the rank has no more pieces. `stack`: closes what is open after an error, so that nothing is kept."""
        self.send("next")
        ended = False
        while not ended or self.at_device or self.current:
            while self.current and len(self.at_device) < AHEAD:
                self._send_next_chunk(self.current)
            if ended and not self.at_device:
                continue
            kind, *content = self._receive()
            if kind == "piece":
                self.current = self._open(content[0], stack)
            elif kind == "candidates":
                self._finish_chunk(self.at_device.popleft(), content[0])
            else:
                ended = True

    def send(self, *message: Any) -> None:
        self.connection.send(message)

    def _receive(self) -> Any:
        while not self.connection.poll(2):
            if os.getppid() != self.rank_pid:
                raise EOFError
        return self.connection.recv()

    def _open(self, named: NamedPiece, stack: ExitStack) -> _PieceInWork:
        own = stack.enter_context(ExitStack())
        writer = own.enter_context(
            corpus_table.writing(self.work.folder / named.name, nbest=self.work.nbest, tag=self.work.tag)
        )
        chunks = corpus_rows.chunks(named.piece, self.work.columns, self.passages)
        self.pairs.form = None  # each piece is looked at by itself, so that it does not depend on the pieces before
        return _PieceInWork(named, chunks, writer, own)

    def _send_next_chunk(self, piece: _PieceInWork) -> None:
        chunk = next(piece.chunks, None)
        if chunk is None:
            piece.is_read, self.current = True, None
            self.send("next")
            self._close_if_complete(piece)
            return
        windows = self._windows(chunk, piece)
        piece.waiting += 1
        self.at_device.append(_ChunkInWork(piece, chunk, windows))
        nothing = np.zeros(0, np.int32)  # characters stay here: the model does not need them
        self.send("windows", replace(windows, offset_start_N=nothing, offset_end_N=nothing))

    def _windows(self, chunk: Chunk, piece: _PieceInWork) -> Windows:
        if self.pairs.form is None and not piece.writer.counts["questions"] and not piece.waiting:
            rows = np.unique(np.linspace(0, len(chunk) - 1, SAMPLED).astype(int))
            reason = self.pairs.compose_if_equal(
                [chunk.questions[row][:500] for row in rows], [chunk.contexts[row][:3000] for row in rows]
            )
            if reason is not None:
                self.send("slower", reason)
        windows = self.pairs.windows(chunk.questions, chunk.contexts, GoldSpans.none())
        empty = np.flatnonzero(windows.lengths_W == 0)
        if len(empty):
            place = chunk.places[int(windows.question_W[empty[0]])]
            raise ValueError(
                f"{corpus_rows.place_text(piece.named.piece.file, place)}: question and context are empty and the tokenizer adds "
                "no special token, so there is nothing to give to a model. Drop the row, or give it a question"
            )
        return windows

    def _finish_chunk(self, done: _ChunkInWork, candidates: Candidates) -> None:
        chunk, file, work = done.chunk, done.piece.named.piece.file, self.work
        # ids may come twice; the places make them different, and are what an error needs
        keys = [
            f"{key} ({corpus_rows.place_text(file, place)}, pair {number})"
            for number, (key, place) in enumerate(zip(chunk.ids, chunk.places))
        ]
        answers = best_answers(
            {"id": keys, "context": chunk.contexts},
            done.windows,
            candidates,
            work.spans,
            version_2_with_negative=work.version_2_with_negative,
            calibration=work.calibration,
        )
        table = corpus_table.table_of(chunk, keys, str(file.path), answers, work.min_confidence, nbest=work.nbest)
        done.piece.writer.add(table, len(done.windows))
        done.piece.waiting -= 1
        self._close_if_complete(done.piece)

    def _close_if_complete(self, piece: _PieceInWork) -> None:
        if piece.is_read and not piece.waiting:
            piece.stack.close()
            self.send("done", piece.named.name, piece.writer.counts)
