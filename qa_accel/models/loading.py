"""Model name or path -> tokenizer, question answering model, and its properties that batches depend on.

What cannot work (no such head, slow tokenizer, too few positions) is refused from the config, before any data is read.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from qa_accel.models import architectures, layer_cut, loaded_weights, model_folder, plain_tokenizer, saved_adapter
from qa_accel.models.model_folder import reading
from qa_accel.models.settings import ModelConfig


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' own progress bars ("Loading weights") and reports within the block."""
    shown, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shown:
            transformers_logging.enable_progress_bar()


def load_tokenizer(config: ModelConfig, *, local_files_only: bool = False) -> PreTrainedTokenizerBase:
    """The fast tokenizer; with `local_files_only` nothing is asked of the hub. Raises ValueError if there is none, since slow ones give no character offsets."""
    name = config.tokenizer_name or config.model_name_or_path
    model_folder.check_name(name, "--tokenizer_name" if config.tokenizer_name else "--model_name_or_path")
    with reading("tokenizer", name):
        tokenizer = AutoTokenizer.from_pretrained(
            name,
            revision=config.model_revision,
            trust_remote_code=config.trust_remote_code,
            local_files_only=local_files_only,
        )
    if not tokenizer.is_fast:
        raise ValueError(
            f"tokenizer {name!r} ({type(tokenizer).__name__}) is slow: it gives no character offsets, so answers could not "
            "be cut from the context; take a model with a fast tokenizer (a tokenizer.json file)"
        )
    plain_tokenizer.check(tokenizer, name)
    return tokenizer


def load_model_config(config: ModelConfig, max_seq_length: int | None) -> PretrainedConfig:
    """The model's config. Raises ValueError if it has no question answering head that text is enough for, or too few
    positions."""
    name = config.model_name_or_path
    model_folder.check_name(name)
    with reading("model", name):
        model_config = AutoConfig.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
    remote_head = config.trust_remote_code and "AutoModelForQuestionAnswering" in getattr(model_config, "auto_map", {})
    architectures.check_head(model_config, name, has_remote_head=remote_head)
    if not remote_head and model_config.num_labels != 2:  # a classifier's; the head would have as many outputs
        model_config.num_labels = 2
    model_config.return_dict = True  # some checkpoints ask for tuples, in which logits have no name
    layers = getattr(model_config, "num_hidden_layers", None)
    if isinstance(layers, int) and layers < 1:
        raise ValueError(f"{name!r}: config.json has {layers} layers (num_hidden_layers); correct config.json")
    positions = available_positions(model_config)
    if positions is not None and positions < 1:
        raise ValueError(
            f"{name!r}: config.json has max_position_embeddings {model_config.max_position_embeddings} and pad_token_id "
            f"{model_config.pad_token_id}, after which positions begin: none is left; correct config.json"
        )
    if positions is not None and max_seq_length is not None and max_seq_length > positions:
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
    keep_layers: tuple[int, ...] | None = None,
) -> PreTrainedModel:
    """The model, in fp32 unless another type is requested: half-precision weights would lose small updates.

    Raises ValueError for weights that cannot be read or are not this model's. `trained`: also if the head's are not in the
    checkpoint, as its answers would be random; in training a new head is normal. `keep_layers`: the only ones that the model has then.
    """
    adapter = saved_adapter.find(config.model_name_or_path)
    name = config.model_name_or_path if adapter is None else adapter.base
    model_folder.check_weights(name)
    with reading("model", name), quiet():
        model, info = AutoModelForQuestionAnswering.from_pretrained(
            name,
            config=model_config,
            revision=config.model_revision,
            trust_remote_code=config.trust_remote_code,
            dtype=config.dtype if config.dtype == "auto" else getattr(torch, config.dtype),
            key_mapping=architectures.key_mapping(model_config),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # else the error points to a report that names them; we name them below
        )
    loaded_weights.check(model, info, name, trained=trained, given=() if adapter is None else adapter.heads)
    if adapter is not None:
        model = adapter.merged_into(model)
    loaded_weights.check_finite(model, config.model_name_or_path)
    if keep_layers is not None:
        model = layer_cut.cut(model, keep_layers, config.model_name_or_path)
    embeddings: Any = model.get_input_embeddings().weight
    rows = getattr(embeddings, "ds_shape", embeddings.shape)[0]  # under ZeRO-3 a rank's own share has the shape (0,)
    highest = max(
        *tokenizer.get_vocab().values(), *tokenizer("a", "b")["input_ids"]
    )  # special tokens have ids of their own
    if highest >= rows:
        raise ValueError(
            f"the tokenizer has ids up to {highest}, {config.model_name_or_path!r} has embeddings for {rows} tokens; "
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
