"""Model, tokenizer and windows -> the collator that makes their batches."""

import numpy as np
from transformers import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel import model
from qa_accel.batches import PaddedCollator
from qa_accel.plan import NOTHING
from qa_accel.windows import Windows


def collator(windows: Windows, tokenizer: PreTrainedTokenizerBase, qa_model: PreTrainedModel) -> PaddedCollator:
    return PaddedCollator(
        windows,
        pad_token_id=model.padding_id(tokenizer),
        padding_side=tokenizer.padding_side,  # type: ignore[arg-type]
        token_type_ids=model.takes_token_type_ids(qa_model, tokenizer),
        max_length=model.available_positions(qa_model.config),
    )


def slots(lengths_W: np.ndarray, step_plan: np.ndarray, collate: PaddedCollator) -> int:
    """Tokens that the batches of a step (..., batch_size) compute, padding included."""
    widest = np.where(step_plan == NOTHING, 0, lengths_W[step_plan]).max(axis=-1)
    width = -(-widest // collate.pad_to_multiple_of) * collate.pad_to_multiple_of
    if collate.max_length is not None:
        width = np.minimum(width, collate.max_length)
    return int(width.sum()) * step_plan.shape[-1]
