"""Model name or path + settings -> all that answering needs: tokenizer, config, batching mode, answer policy, model.

In two stages, since a command refuses what cannot work before it reads data, and reads weights after it: `load_task`
reads no weights, `QATask.load_model` does. Training, `predict.py` and `Reader` all come through here.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PretrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel.batching.mode import BatchingMode, Collator, choose, padding_rules
from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.settings import WindowConfig
from qa_accel.data.windows import Windows, check_tokenizer
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.exported_model import check_config, open_graph
from qa_accel.inference.onnx_session import AGAIN, MODEL, OnnxSession
from qa_accel.models import architectures, loading, model_folder
from qa_accel.models.loading import ModelInputs
from qa_accel.models.settings import ModelConfig


@dataclass(frozen=True)
class QATask:
    """What the checkpoint and the settings decide before any weight is read."""

    settings: ModelConfig
    tokenizer: PreTrainedTokenizerBase
    config: PretrainedConfig
    mode: BatchingMode
    answer_policy: AnswerPolicy
    windows: WindowConfig
    exported: OnnxSession | None = None
    """What computes in place of a torch model, where the folder holds a graph and is to be used as such."""

    def load_model(self, *, trained: bool, keep_layers: tuple[int, ...] | None = None) -> "QAModel":
        """Read the weights. `trained`: raise ValueError where the head's weights are not in the checkpoint. `keep_layers`: of all
        layers these alone, in this order."""
        if self.exported is not None:
            inputs = ModelInputs(self.config, frozenset(self.exported.inputs))
            return QAModel(
                self.tokenizer, self.mode, self.exported, inputs, self.answer_policy, self.windows.max_seq_length
            )
        model = loading.load_model(self.settings, self.config, self.tokenizer, trained=trained, keep_layers=keep_layers)
        model = self.mode.set_up(model)
        return QAModel(
            self.tokenizer, self.mode, model, ModelInputs.of(model), self.answer_policy, self.windows.max_seq_length
        )


@dataclass(frozen=True)
class QAModel:
    """A model that answers questions, with what belongs to it."""

    tokenizer: PreTrainedTokenizerBase
    mode: BatchingMode
    model: Any
    """Called as `model(**batch.inputs)`; any callable that returns `start_logits` and `end_logits` may replace it."""
    inputs: ModelInputs
    answer_policy: AnswerPolicy
    max_seq_length: int
    """Tokens of the longest window."""

    def with_model(self, model: Any) -> "QAModel":
        """The same around another model: prepared for a device, exported, or several that count as one."""
        return replace(self, model=model)

    def evaluation_batches(
        self, windows: Windows, batch_size: int, max_seq_length: int | None = None
    ) -> tuple[np.ndarray, Collator]:
        """Plan (batches, batch_size) of all windows, from the data alone, and the collator that goes with it.

        `max_seq_length`: if the windows were made for another length than the model's own setting.
        """
        return self.mode.evaluation(
            windows, self.tokenizer, self.inputs, batch_size, max_seq_length or self.max_seq_length
        )


def load_task(
    settings: ModelConfig,
    windows: WindowConfig | None,
    batching_config: BatchingConfig,
    *,
    device: str,
    precision: str,
    training: bool = False,
) -> QATask:
    """`device`: its type, as torch names it; `precision`: `no` (fp32), `bf16` or `fp16`. `windows`: the defaults if not
    given, shorter where the model takes less.

    Raises ValueError for what cannot work: no head, a slow tokenizer, too few positions, an unsupported batching mode.
    """
    model_folder.check_not_exported(settings.model_name_or_path)
    tokenizer, config = load_tokenizer_and_config(settings, windows)
    windows = windows or WindowConfig.of_model(tokenizer, loading.available_positions(config))
    mode = choose(batching_config, config, device=device, precision=precision, training=training)
    policy = AnswerPolicy.of_model(config, settings.model_name_or_path)
    return QATask(settings, tokenizer, config, mode, policy, windows)


def load_exported_task(settings: ModelConfig, windows: WindowConfig, threads: int) -> QATask:
    """As `load_task`, for a folder that scripts/export.py wrote, on the CPU. `threads`: of onnxruntime.

    Raises ValueError for a folder that holds no whole export, and if graph, config.json and tokenizer are not of one export.
    """
    name = settings.model_name_or_path
    session = open_graph(name, threads)
    check_config(session, model_folder.mapping(name, "config.json").get("model_type"), name)
    tokenizer, config = load_tokenizer_and_config(settings, windows)
    rules = padding_rules(ModelInputs(config, frozenset(session.inputs)), tokenizer)
    if rules != session.facts.padding:
        raise ValueError(
            f"{name!r}: {MODEL} was exported with {session.facts.padding}, config.json and the tokenizer ask for {rules}; they "
            f"are not of one export: {AGAIN}"
        )
    mode = BatchingMode(False, "an exported model takes a row per window")
    return QATask(settings, tokenizer, config, mode, AnswerPolicy.of_model(config, name), windows, session)


def load_tokenizer_and_config(
    settings: ModelConfig, windows: WindowConfig | None
) -> tuple[PreTrainedTokenizerBase, PretrainedConfig]:
    """The part of `load_task` that needs no processes and no device."""
    # the config first: a tokenizer reads it too, and would be blamed for its damage
    config = loading.load_model_config(settings, windows.max_seq_length if windows else None)
    tokenizer = loading.load_tokenizer(settings)
    architectures.check_pair(config, tokenizer)
    if windows is not None:
        check_tokenizer(tokenizer, windows)
    return tokenizer, config
