"""The settings of batches."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BatchingConfig:
    batching: Literal["auto", "packed", "padded"] = "auto"
    """`padded`: a row per window, windows of like length together. `packed`: all windows of a batch in one row, without
    padding and without attention dropout. `auto`: packed on CUDA in half precision where the model can, else padded."""
    attn_implementation: Literal["auto", "sdpa", "flash_attention_2", "flex_attention", "eager"] = "auto"
    """Attention of padded batches (packed ones have their own). `auto`: the fastest that is installed and that the model
    offers."""
