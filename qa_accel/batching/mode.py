"""Model, device and requested options -> packed or padded batches and their attention, with plans and collators.

Packed batches are faster on CUDA in half precision; padded ones work everywhere.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import MODEL_FOR_QUESTION_ANSWERING_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import is_flash_attn_2_available

from qa_accel.batching import plan
from qa_accel.batching.collate import PackedCollator, PaddedCollator
from qa_accel.batching.rows import PaddingRules
from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.windows import Windows
from qa_accel.models import architectures, attention, loading
from qa_accel.models.attention import NO_VARLEN_KERNEL, kernel_is_here, use_packed_attention
from qa_accel.models.loading import ModelInputs

logger = logging.getLogger(__name__)

Collator = PaddedCollator | PackedCollator

SUPPORT = {
    "sdpa": "_supports_sdpa",
    "flash_attention_2": "_supports_flash_attn",
    "flex_attention": "_supports_flex_attn",
}
"""Name of an attention -> the attribute by which transformers' classes offer it. All models support eager."""


@dataclass(frozen=True)
class BatchingMode:
    """Packed or padded, fixed for the run."""

    packed: bool
    reason: str
    """Why, as one clause for the console."""
    attention: str | None = None
    """transformers' name of the attention of padded batches; None: transformers' default."""

    def set_up(self, qa_model: PreTrainedModel) -> PreTrainedModel:
        """Give the model the attention that goes with the batches."""
        if self.packed:
            use_packed_attention(qa_model)
        elif self.attention is not None:
            qa_model.set_attn_implementation(self.attention)
        return qa_model

    def collator(
        self,
        windows: Windows,
        tokenizer: PreTrainedTokenizerBase,
        inputs: ModelInputs,
        plans: Iterable[np.ndarray],
        max_seq_length: int,
    ) -> Collator:
        """`plans` are those of all epochs: packed rows have the length of their fullest batch."""
        rules = padding_rules(inputs, tokenizer)
        if not self.packed:
            return PaddedCollator(windows, **rules.rows(max_seq_length))
        return PackedCollator(
            windows,
            row_tokens=plan.row_tokens(windows.lengths_W, plans),
            max_length=max_seq_length,
            pad_token_id=rules.pad_token_id,
            position_offset=architectures.first_position(inputs.config),
            token_type_ids=rules.token_type_ids,
        )

    def evaluation(
        self,
        windows: Windows,
        tokenizer: PreTrainedTokenizerBase,
        inputs: ModelInputs,
        batch_size: int,
        max_seq_length: int,
    ) -> tuple[np.ndarray, Collator]:
        """Plan (batches, batch_size), from the data alone, and the collator that goes with it."""
        make = plan.packed_evaluation_plan if self.packed else plan.evaluation_plan
        batch_plan = make(windows.lengths_W, batch_size)
        return batch_plan, self.collator(windows, tokenizer, inputs, [batch_plan], max_seq_length)


def padding_rules(inputs: ModelInputs, tokenizer: PreTrainedTokenizerBase) -> PaddingRules:
    """How a padded batch is filled for this model."""
    names = inputs.names
    token_type_ids = "token_type_ids" in tokenizer.model_input_names and "token_type_ids" in names
    side = architectures.padding_side(inputs.config, tokenizer)
    counts_padding = side == "left" and "position_ids" in names
    return PaddingRules(
        loading.padding_id(tokenizer),
        padding_side=side,
        token_type_ids=token_type_ids and architectures.takes_token_types(inputs.config),
        fixed_width=architectures.architecture(inputs.config).fixed_width is not None,
        max_length=loading.available_positions(inputs.config),
        position_offset=architectures.first_position(inputs.config) if counts_padding else None,
    )


def choose(
    config: BatchingConfig, model_config: PretrainedConfig, *, device: str, precision: str, training: bool = False
) -> BatchingMode:
    """`device`: its type, as torch names it; `precision`: `no` (fp32), `bf16` or `fp16`.

    Raises ValueError if the requested batches or attention cannot work here.
    """
    model_type, row = model_config.model_type, architectures.architecture(model_config)
    if row.fp32_only is not None and precision != "no":
        raise ValueError(
            f"{model_type} cannot run in {precision}: {row.fp32_only}. Launch with --mixed_precision no; "
            "without a launcher, set ACCELERATE_MIXED_PRECISION=no; a Reader takes dtype='float32'"
        )
    half = precision in ("bf16", "fp16")
    packed, reason = _packed(config, device, model_config, half=half)
    if packed:
        return BatchingMode(True, reason)
    implementation, why = choose_attention(
        config.attn_implementation,
        model_config,
        device=device,
        precision=precision,
        training=training,
    )
    if row.fixed_width is not None:
        reason += f"; rows of max_seq_length, as {model_type} needs: {row.fixed_width}"
    return BatchingMode(False, f"{reason}; attention: {implementation or 'its own'} ({why})", implementation)


def _packed(config: BatchingConfig, device: str, model_config: PretrainedConfig, *, half: bool) -> tuple[bool, str]:
    """Whether batches are packed, and why (not)."""
    supported, reason = architectures.packed_support(model_config)
    requested = config.attn_implementation
    no_kernel = device == "cuda" and half and not kernel_is_here()
    if config.batching == "padded":
        return False, "requested"
    if config.batching == "packed":
        if not supported:
            raise ValueError(f"--batching packed: {reason}; take --batching padded")
        if requested != "auto":
            raise ValueError(
                f"--attn_implementation {requested} is for padded batches, packed ones have their own attention: leave it out, "
                "or take --batching padded"
            )
        if no_kernel:
            raise ValueError(f"--batching packed: {NO_VARLEN_KERNEL}; take --batching padded")
        return True, f"requested; {reason}; attention dropout is off"
    if requested != "auto":
        return False, f"--attn_implementation {requested} was requested"
    if device != "cuda":
        return False, f"no CUDA device: on {device.upper()} length groups do as well"
    if not half:
        return False, "packed attention needs bf16 or fp16, this run is fp32"
    if no_kernel:
        return False, NO_VARLEN_KERNEL
    return supported, f"{reason}; attention dropout is off" if supported else reason


def choose_attention(
    requested: str, model_config: PretrainedConfig, *, device: str, precision: str, training: bool
) -> tuple[str | None, str]:
    """transformers' name of an attention, None to keep the model's default, and why. Raises ValueError if the requested
    one is not supported."""
    model_type = model_config.model_type
    architecture: Any = MODEL_FOR_QUESTION_ANSWERING_MAPPING.get(
        type(model_config), None
    )  # none: code of the model's own
    offers = {name: getattr(architecture, flag, False) for name, flag in SUPPORT.items()}
    half = precision in ("bf16", "fp16")
    if requested == "auto":
        if offers["flash_attention_2"] and device == "cuda" and half and is_flash_attn_2_available():
            return "flash_attention_2", "the flash_attn package is installed"
        if not offers["sdpa"]:
            return None, f"{model_type} offers no other"
        if device == "cpu" and training:
            return attention.CPU, "training on a CPU"
        return "sdpa", "torch's own"
    obstacle = None
    if requested != "eager" and not offers.get(requested):
        others = [name for name in ("eager", *offers) if offers.get(name, name == "eager")]
        obstacle = f"{model_type} does not offer it in transformers; it has {', '.join(others)}"
    elif requested == "flash_attention_2" and not (device == "cuda" and half):
        obstacle = f"it needs a CUDA device and bf16 or fp16; this run is {precision.replace('no', 'fp32')} on {device}"
    elif requested == "flash_attention_2" and not is_flash_attn_2_available():
        obstacle = "the package flash_attn is not installed (pip install flash-attn)"
    elif requested == "flex_attention" and device != "cuda":
        obstacle = f"its kernels are made for CUDA, this run is on {device}"
    if obstacle is not None:
        raise ValueError(f"--attn_implementation {requested}: {obstacle}")
    return requested, "requested"


def computed_tokens(lengths_W: np.ndarray, step_plan: np.ndarray, collate: Collator) -> int:
    """Tokens that the batches of a step (..., batch_size) compute, padding included."""
    if isinstance(collate, PackedCollator):
        return collate.row_tokens * (step_plan.size // step_plan.shape[-1])
    widest = np.where(step_plan == plan.NOTHING, 0, lengths_W[step_plan]).max(axis=-1)
    width = -(-widest // collate.pad_to_multiple_of) * collate.pad_to_multiple_of
    if collate.max_length is not None:
        width = np.minimum(width, collate.max_length)
    return int(width.sum()) * step_plan.shape[-1]
