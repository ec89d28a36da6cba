"""Model, device and wish -> packed or padded batches, and the plans and collators of that manner.

Packed is the faster one where attention runs on CUDA in half precision; padded works everywhere.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from accelerate import Accelerator
from transformers import PretrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel import architectures, model, plan, strategy
from qa_accel.attention import PROVEN, packed_support, use_packed_attention
from qa_accel.batches import PackedCollator, PaddedCollator
from qa_accel.windows import Windows

logger = logging.getLogger(__name__)

Collator = PaddedCollator | PackedCollator


@dataclass(frozen=True)
class BatchingConfig:
    batching: Literal["auto", "packed", "padded"] = "auto"
    """`padded`: a row per window, windows of like length together. `packed`: all windows of a batch in one row, without
    padding and without attention dropout. `auto`: packed on CUDA in half precision where the model can, else padded."""


@dataclass(frozen=True)
class Batching:
    """The manner of a run, decided once."""

    packed: bool
    reason: str
    """Why, as one clause for the console."""
    on_cpu: bool = False

    def set_up(self, qa_model: PreTrainedModel, *, training: bool = False) -> PreTrainedModel:
        """Give the model the attention that goes with the batches."""
        if self.packed:
            use_packed_attention(qa_model)
        elif self.on_cpu and training:
            # torch's fused kernel for the CPU has no dropout; what it falls back to is a seventh slower than plain products
            qa_model.set_attn_implementation("eager")
        return qa_model

    def collator(
        self,
        windows: Windows,
        tokenizer: PreTrainedTokenizerBase,
        qa_model: PreTrainedModel,
        plans: Iterable[np.ndarray],
        max_seq_length: int,
    ) -> Collator:
        """`plans` are those of all epochs: packed rows have the length of their fullest batch."""
        pad_token_id = model.padding_id(tokenizer)
        token_type_ids = "token_type_ids" in tokenizer.model_input_names and model.takes(qa_model, "token_type_ids")
        token_type_ids = token_type_ids and architectures.takes_token_types(qa_model.config)
        if not self.packed:
            padding_side = architectures.padding_side(qa_model.config, tokenizer)
            counts_padding = padding_side == "left" and model.takes(qa_model, "position_ids")
            fixed_width = qa_model.config.model_type in architectures.FIXED_WIDTH
            return PaddedCollator(
                windows,
                pad_token_id=pad_token_id,
                padding_side=padding_side,
                token_type_ids=token_type_ids,
                pad_to_multiple_of=max_seq_length if fixed_width else 8,
                max_length=model.available_positions(qa_model.config),
                position_offset=model.first_position(qa_model.config) if counts_padding else None,
            )
        return PackedCollator(
            windows,
            row_tokens=plan.row_tokens(windows.lengths_W, plans),
            max_length=max_seq_length,
            pad_token_id=pad_token_id,
            position_offset=PROVEN[qa_model.config.model_type].position_offset(qa_model.config),
            token_type_ids=token_type_ids,
        )

    def evaluation(
        self,
        windows: Windows,
        tokenizer: PreTrainedTokenizerBase,
        qa_model: PreTrainedModel,
        batch_size: int,
        max_seq_length: int,
    ) -> tuple[np.ndarray, Collator]:
        """Plan (batches, batch_size), from the data alone, and the collator that goes with it."""
        make = plan.packed_evaluation_plan if self.packed else plan.evaluation_plan
        batch_plan = make(windows.lengths_W, batch_size)
        return batch_plan, self.collator(windows, tokenizer, qa_model, [batch_plan], max_seq_length)


def choose(config: BatchingConfig, accelerator: Accelerator, model_config: PretrainedConfig) -> Batching:
    """Raises ValueError where packed batches are asked for and the model cannot take them."""
    chosen = _choose(config, accelerator, model_config)
    width = architectures.FIXED_WIDTH.get(model_config.model_type)
    if chosen.packed or width is None:
        return chosen
    return replace(
        chosen, reason=f"{chosen.reason}; rows of max_seq_length, as {model_config.model_type} needs: {width}"
    )


def _choose(config: BatchingConfig, accelerator: Accelerator, model_config: PretrainedConfig) -> Batching:
    supported, reason = packed_support(model_config)
    on_cpu = accelerator.device.type == "cpu"
    if config.batching == "padded":
        return Batching(False, "asked for", on_cpu)
    if config.batching == "packed":
        if not supported:
            raise ValueError(f"--batching packed: {reason}; take --batching padded")
        return Batching(True, f"asked for; {reason}; attention dropout is off")
    if accelerator.device.type != "cuda":
        return Batching(False, f"no CUDA device: on {accelerator.device.type.upper()} length groups do as well", on_cpu)
    if strategy.precision(accelerator) not in ("bf16", "fp16"):
        return Batching(False, "packed attention needs bf16 or fp16, this run is fp32")
    return Batching(supported, f"{reason}; attention dropout is off" if supported else reason)


def slots(lengths_W: np.ndarray, step_plan: np.ndarray, collate: Collator) -> int:
    """Tokens that the batches of a step (..., batch_size) compute, padding included."""
    if isinstance(collate, PackedCollator):
        return collate.row_tokens * (step_plan.size // step_plan.shape[-1])
    widest = np.where(step_plan == plan.NOTHING, 0, lengths_W[step_plan]).max(axis=-1)
    width = -(-widest // collate.pad_to_multiple_of) * collate.pad_to_multiple_of
    if collate.max_length is not None:
        width = np.minimum(width, collate.max_length)
    return int(width.sum()) * step_plan.shape[-1]
