"""Model + windows -> candidates, in this process alone: no gather, no launcher, any number of threads."""

from threading import Lock

import torch

from qa_accel.batching.plan import NOTHING
from qa_accel.data.windows import Windows
from qa_accel.inference.candidate_rows import GatheredRows, candidate_rows
from qa_accel.inference.postprocess import Candidates
from qa_accel.inference.qa_model import QAModel
from qa_accel.inference.settings import SpanConfig


class LocalPredictor:
    """A model on one device. One thread at a time computes: a second would only share the same cores, or the same GPU."""

    def __init__(self, qa: QAModel, device: torch.device):
        """`qa.model` is on `device` and in evaluation mode; any callable that gives logits may be in its place."""
        self.qa, self.device = qa, device
        self._lock = Lock()

    def candidates(self, windows: Windows, spans: SpanConfig, batch_size: int, max_seq_length: int) -> Candidates:
        """The n best spans and the null logits of each window, with at most `batch_size` windows per forward pass.

        Windows of like length share a batch, as in prediction by `predict.py`, whose logits these are to the bit on the
        same device and in the same precision.
        """
        plan, collate = self.qa.evaluation_batches(windows, batch_size, max_seq_length)
        found = GatheredRows(len(windows), spans)
        for row in plan:
            batch = collate(row[row != NOTHING])
            with self._lock, torch.inference_mode():
                batch = batch if self.device.type == "cpu" else batch.to(self.device)
                output = self.qa.model(**batch.inputs)
                rows = candidate_rows(output.start_logits, output.end_logits, batch, spans)
                found.put(rows)
        return found.candidates()
