"""Model name or path -> tokenizer, question answering model, and its properties that batches depend on.

What cannot work (no such head, slow tokenizer, too few positions) is refused from the config, before any data is read.
"""

import inspect
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from qa_accel.models import architectures

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelConfig:
    model_name_or_path: str
    """Hub name or folder of the encoder, fine-tuned or not."""
    tokenizer_name: str | None = None
    """Hub name or folder of the tokenizer; the model's own if not given."""
    model_revision: str = "main"
    """Branch, tag or commit of the hub model."""
    trust_remote_code: bool = False
    """Run the model's own code from the hub."""
    dtype: Literal["float32", "auto", "bfloat16", "float16"] = "float32"
    """Type of the weights in memory, whatever their file holds; `auto`: the file's. Training in half precision loses small
    updates; autocast (accelerate's mixed precision) does not need it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' own progress bars ("Loading weights") within the block."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The fast tokenizer. Raises ValueError if there is none, since slow ones give no character offsets."""
    name = config.tokenizer_name or config.model_name_or_path
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"tokenizer {name!r} cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise ValueError(
            f"tokenizer {name!r} ({type(tokenizer).__name__}) is slow: it gives no character offsets, so answers could not "
            "be cut from the context; take a model with a fast tokenizer (a tokenizer.json file)"
        )
    return tokenizer


def load_model_config(
    config: ModelConfig, max_seq_length: int, tokenizer: PreTrainedTokenizerBase | None = None
) -> PretrainedConfig:
    """The model's config.

    Raises ValueError if it has no question answering head that text is enough for, too few positions, or a head that
    needs another tokenizer than this one.
    """
    name = config.model_name_or_path
    try:
        model_config = AutoConfig.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"model {name!r} cannot be loaded: {error}") from error
    remote_head = "AutoModelForQuestionAnswering" in getattr(model_config, "auto_map", {})
    architectures.check_head(model_config, name, has_remote_head=remote_head and config.trust_remote_code)
    if tokenizer is not None:
        architectures.check_pair(model_config, tokenizer)
    model_config.return_dict = True  # some checkpoints ask for tuples, in which logits have no name
    positions = available_positions(model_config)
    if positions is not None and max_seq_length > positions:
        raise ValueError(
            f"--max_seq_length {max_seq_length} is more than the {positions} positions that {name!r} knows; "
            f"set --max_seq_length {positions} or less"
        )
    return model_config


def available_positions(model_config: PretrainedConfig) -> int | None:
    """Longest window that the model's position embeddings allow, or None if there is no limit."""
    positions = getattr(model_config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0 or getattr(model_config, "relative_attention", False):
        return None
    return positions - architectures.first_position(model_config)


def load_model(
    config: ModelConfig,
    model_config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    trained: bool = False,
) -> PreTrainedModel:
    """The model, in fp32 unless another type is requested: half-precision weights would lose small updates.

    `trained`: raise ValueError if the head's weights are not in the checkpoint, as its answers would be random.
    """
    adapter = adapter_config(config.model_name_or_path)
    model, info = AutoModelForQuestionAnswering.from_pretrained(
        config.model_name_or_path if adapter is None else adapter["base_model_name_or_path"],
        config=model_config,
        revision=config.model_revision,
        trust_remote_code=config.trust_remote_code,
        dtype=config.dtype if config.dtype == "auto" else getattr(torch, config.dtype),
        output_loading_info=True,
    )
    missing = sorted(info["missing_keys"])
    if adapter is not None:
        model = _with_adapter(model, config.model_name_or_path)
        missing = [name for name in missing if name.partition(".")[0] not in (adapter["modules_to_save"] or ())]
    if trained and missing:
        raise ValueError(
            f"{config.model_name_or_path!r} has no weights for {', '.join(missing[:4])}: its question answering head was "
            "never trained, so its answers would be random; fine-tune it first (scripts/train.py)"
        )
    embeddings = model.get_input_embeddings().weight
    rows = getattr(embeddings, "ds_shape", embeddings.shape)[0]  # under ZeRO-3 a rank's own share has the shape (0,)
    if len(tokenizer) > rows:
        raise ValueError(
            f"the tokenizer knows {len(tokenizer)} tokens, {config.model_name_or_path!r} has embeddings for {rows}; "
            "--tokenizer_name must belong to the model"
        )
    architectures.freeze_what_is_never_used(model)
    if config.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise ValueError(
                f"--gradient_checkpointing: transformers has none for {model_config.model_type}; leave it out"
            )
        # the former name in older versions of transformers; newer ones warn of it
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        if getattr(model.config, "use_cache", False):
            # else transformers warns, at the first step, that it goes without the cache; a warning cannot be compiled
            model.config.use_cache = False
    return model


def adapter_config(folder: str) -> dict[str, Any] | None:
    """peft's config of an adapter; None if the folder holds none. Raises ValueError if its base model does not exist."""
    path = Path(folder, "adapter_config.json")
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    base = found.get("base_model_name_or_path") or ""
    if os.path.isabs(base) and not Path(base).is_dir():
        raise ValueError(
            f"{path}: the adapter's base_model_name_or_path, {base}, does not exist; correct the path in this file"
        )
    return found


def _with_adapter(model: PreTrainedModel, folder: str) -> Any:
    """The model as it was before training, with an adapter's product added to its weights and the adapter's head."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ValueError(f"{folder} holds an adapter, which needs peft: pip install 'qa-accel[lora]'") from error
    return PeftModel.from_pretrained(model, folder).merge_and_unload()


@dataclass(frozen=True)
class ModelInputs:
    """What batches have to know of a model."""

    config: PretrainedConfig
    names: frozenset[str]
    """Arguments of its forward."""

    @classmethod
    def of(cls, model: PreTrainedModel) -> "ModelInputs":
        return cls(model.config, frozenset(inspect.signature(model.forward).parameters))


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id that fills a batch: the pad token's, else the end-of-text token's, else 0. Attention never sees it."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((candidate for candidate in candidates if isinstance(candidate, int)), 0)
