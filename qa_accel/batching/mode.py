"""Model, device and wishes -> packed or padded batches and the attention that computes them, with plans and collators.

Packed is the faster one where attention runs on CUDA in half precision; padded works everywhere.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator
from transformers import MODEL_FOR_QUESTION_ANSWERING_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import is_flash_attn_2_available

from qa_accel.batching import plan
from qa_accel.batching.collate import PackedCollator, PaddedCollator
from qa_accel.data.windows import Windows
from qa_accel.distributed import strategy
from qa_accel.models import architectures, cpu_attention
from qa_accel.models import loading as model
from qa_accel.models.attention import NO_KERNEL, PROVEN, kernel_is_here, packed_support, use_packed_attention
from qa_accel.models.loading import ModelInputs

logger = logging.getLogger(__name__)

Collator = PaddedCollator | PackedCollator

SUPPORT = {
    "sdpa": "_supports_sdpa",
    "flash_attention_2": "_supports_flash_attn",
    "flex_attention": "_supports_flex_attn",
}
"""Name of an attention -> the attribute by which transformers' classes offer it. Plain products (eager) all have."""


@dataclass(frozen=True)
class BatchingConfig:
    batching: Literal["auto", "packed", "padded"] = "auto"
    """`padded`: a row per window, windows of like length together. `packed`: all windows of a batch in one row, without
    padding and without attention dropout. `auto`: packed on CUDA in half precision where the model can, else padded."""
    attn_implementation: Literal["auto", "sdpa", "flash_attention_2", "flex_attention", "eager"] = "auto"
    """Attention of padded batches (packed ones have their own). `auto`: the fastest that is installed and that the model
    offers."""


@dataclass(frozen=True)
class Batching:
    """The manner of a run, decided once."""

    packed: bool
    reason: str
    """Why, as one clause for the console."""
    attention: str | None = None
    """transformers' name of the attention of padded batches; None: what transformers takes by itself."""

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
        pad_token_id = model.padding_id(tokenizer)
        token_type_ids = "token_type_ids" in tokenizer.model_input_names and "token_type_ids" in inputs.names
        token_type_ids = token_type_ids and architectures.takes_token_types(inputs.config)
        if not self.packed:
            padding_side = architectures.padding_side(inputs.config, tokenizer)
            counts_padding = padding_side == "left" and "position_ids" in inputs.names
            fixed_width = inputs.config.model_type in architectures.FIXED_WIDTH
            return PaddedCollator(
                windows,
                pad_token_id=pad_token_id,
                padding_side=padding_side,
                token_type_ids=token_type_ids,
                pad_to_multiple_of=max_seq_length if fixed_width else 8,
                max_length=model.available_positions(inputs.config),
                position_offset=model.first_position(inputs.config) if counts_padding else None,
            )
        return PackedCollator(
            windows,
            row_tokens=plan.row_tokens(windows.lengths_W, plans),
            max_length=max_seq_length,
            pad_token_id=pad_token_id,
            position_offset=PROVEN[inputs.config.model_type].position_offset(inputs.config),
            token_type_ids=token_type_ids,
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


def choose(
    config: BatchingConfig, accelerator: Accelerator, model_config: PretrainedConfig, *, training: bool = False
) -> Batching:
    """Raises ValueError where packed batches, or an attention, are asked for that cannot work here."""
    kind, precision = model_config.model_type, strategy.precision(accelerator)
    if kind in architectures.ONLY_IN_FP32 and precision != "no":
        raise ValueError(
            f"{kind} cannot run in {precision}: {architectures.ONLY_IN_FP32[kind]}. Launch with --mixed_precision no; "
            "without a launcher, set ACCELERATE_MIXED_PRECISION=no"
        )
    packed, reason = _packed(config, accelerator, model_config)
    if packed:
        return Batching(True, reason)
    attention, why = choose_attention(
        config.attn_implementation,
        model_config,
        device=accelerator.device.type,
        precision=precision,
        training=training,
    )
    width = architectures.FIXED_WIDTH.get(kind)
    if width is not None:
        reason += f"; rows of max_seq_length, as {kind} needs: {width}"
    return Batching(False, f"{reason}; attention: {attention or 'its own'} ({why})", attention)


def _packed(config: BatchingConfig, accelerator: Accelerator, model_config: PretrainedConfig) -> tuple[bool, str]:
    """Whether batches are packed, and why (not)."""
    supported, reason = packed_support(model_config)
    wish = config.attn_implementation
    half = strategy.precision(accelerator) in ("bf16", "fp16")
    no_kernel = accelerator.device.type == "cuda" and half and not kernel_is_here()
    if config.batching == "padded":
        return False, "asked for"
    if config.batching == "packed":
        if not supported:
            raise ValueError(f"--batching packed: {reason}; take --batching padded")
        if wish != "auto":
            raise ValueError(
                f"--attn_implementation {wish} is for padded batches, packed ones have their own attention: leave it out, "
                "or take --batching padded"
            )
        if no_kernel:
            raise ValueError(f"--batching packed: {NO_KERNEL}; take --batching padded")
        return True, f"asked for; {reason}; attention dropout is off"
    if wish != "auto":
        return False, f"--attn_implementation {wish} was asked for"
    if accelerator.device.type != "cuda":
        return False, f"no CUDA device: on {accelerator.device.type.upper()} length groups do as well"
    if not half:
        return False, "packed attention needs bf16 or fp16, this run is fp32"
    if no_kernel:
        return False, NO_KERNEL
    return supported, f"{reason}; attention dropout is off" if supported else reason


def choose_attention(
    wish: str, model_config: PretrainedConfig, *, device: str, precision: str, training: bool
) -> tuple[str | None, str]:
    """transformers' name of an attention, None to leave the model as it is, and why. Raises ValueError for a vain wish."""
    kind = model_config.model_type
    architecture: Any = MODEL_FOR_QUESTION_ANSWERING_MAPPING.get(
        type(model_config), None
    )  # none: code of the model's own
    offers = {name: getattr(architecture, flag, False) for name, flag in SUPPORT.items()}
    half = precision in ("bf16", "fp16")
    if wish == "auto":
        if offers["flash_attention_2"] and device == "cuda" and half and is_flash_attn_2_available():
            return "flash_attention_2", "the flash_attn package is installed"
        if not offers["sdpa"]:
            return None, f"{kind} offers no other"
        if device == "cpu" and training:
            return cpu_attention.NAME, "training on a CPU"
        return "sdpa", "torch's own"
    obstacle = None
    if wish != "eager" and not offers[wish]:
        others = [name for name in ("eager", *offers) if offers.get(name, name == "eager")]
        obstacle = f"{kind} does not offer it in transformers; it has {', '.join(others)}"
    elif wish == "flash_attention_2" and not (device == "cuda" and half):
        obstacle = f"it needs a CUDA device and bf16 or fp16; this run is {precision.replace('no', 'fp32')} on {device}"
    elif wish == "flash_attention_2" and not is_flash_attn_2_available():
        obstacle = "the package flash_attn is not installed (pip install flash-attn)"
    elif wish == "flex_attention" and device != "cuda":
        obstacle = f"its kernels are made for CUDA, this run is on {device}"
    if obstacle is not None:
        raise ValueError(f"--attn_implementation {wish}: {obstacle}")
    return wish, "asked for"


def slots(lengths_W: np.ndarray, step_plan: np.ndarray, collate: Collator) -> int:
    """Tokens that the batches of a step (..., batch_size) compute, padding included."""
    if isinstance(collate, PackedCollator):
        return collate.row_tokens * (step_plan.size // step_plan.shape[-1])
    widest = np.where(step_plan == plan.NOTHING, 0, lengths_W[step_plan]).max(axis=-1)
    width = -(-widest // collate.pad_to_multiple_of) * collate.pad_to_multiple_of
    if collate.max_length is not None:
        width = np.minimum(width, collate.max_length)
    return int(width.sum()) * step_plan.shape[-1]
