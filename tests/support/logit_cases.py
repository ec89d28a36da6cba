"""A model, questions and a cache -> the file of the logits, in the process that calls."""

import hashlib
import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn
from toy import WINDOWS
from transformers import AutoTokenizer, PretrainedConfig
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from qa_accel.batching.settings import BatchingConfig
from qa_accel.data import splits
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.splits import Split
from qa_accel.inference import saved_logits
from qa_accel.inference.qa_model import QAModel, load_task
from qa_accel.models.settings import ModelConfig

BATCH_SIZE = 7
WINDOW_CONFIG = WindowConfig(**WINDOWS)
MODES = ("padded right", "padded left", "packed")


class Case(NamedTuple):
    model: Path
    file: Path
    cache: Path


def split_of(case: Case, questions: int | None = None) -> Split:
    data = DataConfig(test_file=(str(case.file),), max_predict_samples=questions, cache_dir=str(case.cache / "data"))
    return splits.prepare_split(data, WINDOW_CONFIG, AutoTokenizer.from_pretrained(case.model), "test")


def qa_of(model: Path, mode: str = MODES[0]) -> QAModel:
    batching = BatchingConfig("packed" if mode == "packed" else "padded")
    qa = load_task(ModelConfig(str(model)), WINDOW_CONFIG, batching, device="cpu", precision="no").load_model(
        trained=True
    )
    qa.tokenizer.padding_side = "left" if mode == "padded left" else "right"
    return qa


def save(
    accelerator: Accelerator, case: Case, qa: QAModel, dtype: Any = "float32", batch_size: int = BATCH_SIZE
) -> Path:
    with accelerator.main_process_first():
        windows = split_of(case).windows
    return saved_logits.save_logits(accelerator, qa, windows, batch_size, dtype=dtype, cache_dir=case.cache).path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class GivenLogits(nn.Module):
    """The same logits for every token, but for one token of the third batch's first window."""

    def __init__(self, odd: float, killed: bool = False):
        super().__init__()
        self.config, self.odd, self.killed, self.calls = PretrainedConfig(), odd, killed, 0

    def forward(self, input_ids: torch.Tensor, **_: Any) -> QuestionAnsweringModelOutput:
        self.calls += 1
        if self.killed and self.calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        start, end = torch.ones(input_ids.shape), torch.ones(input_ids.shape)
        if self.calls == 3:
            end[0, 5] = self.odd
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)
