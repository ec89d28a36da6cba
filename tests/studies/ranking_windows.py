"""Documents and a model -> what the decoder knows of each window: its best span, the logits of its null position, normalisers.

All that is compared later follows from these few numbers, so the model runs once, and they are kept in a file.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from ranking_documents import Documents, Questions

from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.pair_tokenizer import PairTokenizer
from qa_accel.data.settings import WindowConfig
from qa_accel.data.windows import GoldSpans, Windows, end_of_character
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import strategy
from qa_accel.inference.postprocess import Candidates
from qa_accel.inference.predictor import predict_windows
from qa_accel.inference.qa_model import load_task
from qa_accel.inference.settings import SpanConfig
from qa_accel.models.settings import ModelConfig


@dataclass(frozen=True)
class Found:
    """W windows, document after document. float64, but for the texts."""

    document_W: np.ndarray
    """int64, row of the documents."""
    span_W: np.ndarray
    """Start logit + end logit of the window's best span; -inf where it has none."""
    text_W: np.ndarray
    """str, that span."""
    null_start_W: np.ndarray
    null_end_W: np.ndarray
    lse_start_W: np.ndarray
    lse_end_W: np.ndarray
    lse_spans_W: np.ndarray
    """Log of the sum of exp(start logit + end logit) over the window's n best spans."""

    @property
    def null_W(self) -> np.ndarray:
        return self.null_start_W + self.null_end_W

    @property
    def lse_W(self) -> np.ndarray:
        """Log of the sum of exp(start logit + end logit) over all pairs of a start and an end, in any order."""
        return self.lse_start_W + self.lse_end_W

    def of(self, chosen_W: np.ndarray) -> "Found":
        return Found(*(getattr(self, field.name)[chosen_W] for field in fields(self)))


def find(
    questions: Questions,
    documents: Documents,
    model_folder: str,
    window_config: WindowConfig,
    done: Callable[[int, int], None],
) -> Found:
    """`done` is called with the number of batches that are computed and that of all."""
    accelerator = runtime.make_accelerator(runtime.RuntimeConfig())
    task = load_task(
        ModelConfig(model_folder),
        window_config,
        BatchingConfig(),
        **strategy.placement(accelerator),
    )
    qa = task.load_model(trained=True)
    asked = [questions.question_Q[row] for row in documents.question_D]
    windows = PairTokenizer(qa.tokenizer, window_config).tokenize_pairs(asked, documents.text_D, GoldSpans.none())
    plan, collate = qa.evaluation_batches(windows, 32)
    model = accelerator.prepare_model(qa.model, evaluation_mode=True)
    candidates = predict_windows(accelerator, model, collate, plan, SpanConfig(), lambda count: done(count, len(plan)))
    assert candidates is not None, "one process"
    return _found(documents, windows, candidates)


def _found(documents: Documents, windows: Windows, candidates: Candidates) -> Found:
    score_WK = candidates.start_logit_WK.astype(np.float64) + candidates.end_logit_WK
    begin_W, best_W = windows.begin_W[:-1], candidates.start_WK[:, 0] >= 0
    first_W = windows.offset_start_N[begin_W + candidates.start_WK[:, 0] * best_W]
    last_W = windows.offset_end_N[begin_W + candidates.end_WK[:, 0] * best_W]
    texts = []
    for document, is_there, first, last in zip(windows.question_W, best_W, first_W.tolist(), last_W.tolist()):
        text = documents.text_D[document]
        texts.append(text[first : end_of_character(text, last)].strip() if is_there else "")
    return Found(
        document_W=windows.question_W.astype(np.int64),
        span_W=score_WK[:, 0],
        text_W=np.array(texts),
        null_start_W=candidates.null_start_W.astype(np.float64),
        null_end_W=candidates.null_end_W.astype(np.float64),
        lse_start_W=candidates.lse_start_W.astype(np.float64),
        lse_end_W=candidates.lse_end_W.astype(np.float64),
        lse_spans_W=np.logaddexp.reduce(score_WK, axis=1),
    )


def save(found: Found, path: Path) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **{field.name: getattr(found, field.name) for field in fields(Found)})


def load(path: Path) -> Found:
    with np.load(path) as stored:
        return Found(**{field.name: stored[field.name] for field in fields(Found)})
