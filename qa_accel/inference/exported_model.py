"""A folder that scripts/export.py wrote -> a model that answers questions on the CPU, without torch."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

from qa_accel.batching import plan
from qa_accel.batching.plan import NOTHING
from qa_accel.batching.rows import PaddedRows
from qa_accel.data.settings import WindowConfig
from qa_accel.data.windows import Windows, check_tokenizer
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.onnx_session import AGAIN, MODEL, OnnxSession
from qa_accel.inference.postprocess import Candidates
from qa_accel.inference.settings import SpanConfig
from qa_accel.inference.window_rows import WindowRows, window_rows
from qa_accel.messages import short
from qa_accel.models import model_folder, plain_tokenizer


@dataclass(frozen=True)
class ExportedModel:
    """Graph, tokenizer and answer policy of one folder."""

    tokenizer: Any
    session: OnnxSession
    answer_policy: AnswerPolicy

    @classmethod
    def load(cls, folder: str, threads: int | None = None) -> "ExportedModel":
        """`threads`: as in OnnxSession. Raises ValueError for a folder that holds no whole export."""
        session, config = open_graph(folder, threads), model_folder.mapping(folder, "config.json")
        check_config(session, config.get("model_type"), folder)
        return cls(plain_tokenizer.load(folder), session, AnswerPolicy.of_model(SimpleNamespace(**config), folder))

    @property
    def longest(self) -> int | None:
        """Tokens of the longest window that the model takes; None: any number."""
        return self.session.facts.padding.max_length

    def window_config(self, requested: WindowConfig | None) -> WindowConfig:
        """What is requested, or the defaults. Raises ValueError if such windows cannot be made or are too long."""
        if requested is None:
            return WindowConfig.of_model(self.tokenizer, self.longest)
        if self.longest is not None and requested.max_seq_length > self.longest:
            raise ValueError(
                f"max_seq_length {requested.max_seq_length} is more than the {self.longest} positions that the model knows"
            )
        check_tokenizer(self.tokenizer, requested)
        return requested


class ExportedPredictor:
    """As `LocalPredictor`. One thread at a time computes: a second would only share the same cores."""

    def __init__(self, model: ExportedModel):
        self.model = model
        self._lock = Lock()

    def candidates(self, windows: Windows, spans: SpanConfig, batch_size: int, max_seq_length: int) -> Candidates:
        """The n best spans and the null logits of each window, with at most `batch_size` windows per call of the graph.

        Windows of like length share a batch, in the batches of `predict.py --backend onnx`.
        """
        rows = PaddedRows(windows, **self.model.session.facts.padding.rows(max_seq_length))
        found = WindowRows(len(windows), spans)
        for index_B in plan.evaluation_plan(windows.lengths_W, batch_size):
            batch = rows.arrays(index_B[index_B != NOTHING])
            with self._lock:
                logits = self.model.session(**batch.inputs)
            found.place(window_rows(*logits, batch, spans))
        return found.candidates()


def open_graph(folder: str, threads: int | None = None) -> OnnxSession:
    """Raises ValueError for a name that is no folder, and for a folder without a graph."""
    model_folder.check_name(folder)
    if not Path(folder).is_dir():
        raise ValueError(f"{folder!r} is not a folder; backend onnx takes the folder that scripts/export.py wrote")
    if not Path(folder, MODEL).is_file():
        raise ValueError(
            f"{folder!r} holds no {MODEL}: run scripts/export.py --model_name_or_path {short(folder)} --output_dir FOLDER, and give "
            "that folder; or leave out backend onnx"
        )
    return OnnxSession(Path(folder, MODEL), threads)


def check_config(session: OnnxSession, model_type: object, folder: str) -> None:
    """Raises ValueError if config.json belongs to another model than the graph."""
    if model_type != session.facts.model_type:
        raise ValueError(
            f"{folder!r}: {MODEL} is of the type {session.facts.model_type}, config.json of {short(str(model_type))}; the two are "
            f"not of one export: {AGAIN}"
        )
