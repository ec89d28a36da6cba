"""One loader for training, prediction and the reader; anything that returns logits may take the place of its model."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from processes import call, run
from toy import WINDOWS

from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.splits import prepare_split
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import strategy
from qa_accel.inference.predictor import answer_split
from qa_accel.inference.qa_model import QAModel, load_task
from qa_accel.inference.settings import SpanConfig
from qa_accel.models.settings import ModelConfig


class ExportedSession:
    """Not a torch module: it has no parameters, no `eval` and no config, as a session of another engine has none."""

    def __init__(self, model: torch.nn.Module):
        self.run = model

    def __call__(self, **inputs: Any) -> SimpleNamespace:
        assert not torch.is_grad_enabled()
        output = self.run(**inputs)
        start, end = (np.array(logits) for logits in (output.start_logits, output.end_logits))
        return SimpleNamespace(start_logits=torch.from_numpy(start), end_logits=torch.from_numpy(end))


def answers_of(model: str, file: str, cache: str) -> list[dict]:
    """Null odds of the loader's model, and of a session in its place."""
    accelerator = runtime.make_accelerator(runtime.RuntimeConfig())
    windows = WindowConfig(**WINDOWS)
    task = load_task(
        ModelConfig(model),
        windows,
        BatchingConfig(),
        **strategy.placement(accelerator),
    )
    qa = task.load_model(trained=True)
    split = prepare_split(DataConfig(test_file=(file,), cache_dir=cache), windows, task.tokenizer, "test")
    spans = qa.answer_policy.apply(SpanConfig(n_best_size=4))

    def answered(qa: QAModel) -> dict:
        plan, collate = qa.evaluation_batches(split.windows, 8)
        answers = answer_split(accelerator, qa.model, split, collate, plan, spans, version_2_with_negative=True)
        assert answers is not None
        return answers.null_odds

    qa = qa.with_model(accelerator.prepare_model(qa.model, evaluation_mode=True))
    return [answered(qa), answered(qa.with_model(ExportedSession(qa.model.eval())))]


def test_a_session_of_another_engine_replaces_the_model(toy, tmp_path):
    """Breaks if prediction needs more of its model than logits: a method of torch modules, a config, parameters."""
    [(torch_model, session)] = call(answers_of, str(toy.model), str(toy.dev), str(tmp_path))
    assert len(torch_model) == 30 and session == torch_model


def load_with(settings: dict, windows: dict) -> None:
    accelerator = runtime.make_accelerator(runtime.RuntimeConfig())
    load_task(
        ModelConfig(**settings),
        WindowConfig(**windows),
        BatchingConfig(batching="packed"),
        **strategy.placement(accelerator),
    )


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (dict(max_seq_length=4096), "max_seq_length 4096 is more than the"),
        (dict(max_seq_length=64, doc_stride=60, max_query_length=10), "doc_stride=60 must be less than"),
    ],
)
def test_the_loader_refuses_before_it_reads_weights(toy, tmp_path, windows, message):
    """The folder has no weights at all. Breaks if a refusal comes after minutes of loading."""
    for path in toy.model.iterdir():
        if path.suffix == ".json" or path.suffix == ".txt":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    [left] = run(load_with, {"model_name_or_path": str(tmp_path)}, windows)
    assert left.code == 1 and message in left.output, left.output
