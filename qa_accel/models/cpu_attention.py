"""Attention for training on a CPU: plain products with as few passes over the scores as there can be.

torch's fused kernel for the CPU has no dropout, and what it falls back to, like the
models' own eager code, goes over the scores (B, heads, L, L) once each for scaling, mask, a cast, softmax, a cast and two
products with the dropped ones. Outside of training it is torch's fused kernel, as in prediction.
"""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from qa_accel.models.fast_layers import dropout as drop

NAME = "cpu"
"""Under which transformers knows it."""


def cpu_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """query (B, heads, L, d), key and value (B, heads or fewer, K, d) -> (B, L, heads, d). attention_mask: bool, or a bias."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    special = (causal and attention_mask is None) or kwargs.get("position_bias") is not None
    if not module.training or special:
        dropout = dropout if module.training else 0.0
        return sdpa_attention_forward(  # type: ignore[return-value]
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    with torch.autocast("cpu", enabled=False):  # it would make the softmax's output fp32, to be rounded one step later
        scores = (query * factor).to(dtype) @ key.to(dtype).transpose(2, 3)
        if attention_mask is not None:
            scores += bias(attention_mask, dtype)
        shares = scores.softmax(dim=-1)
        if dropout:
            shares = drop(shares, dropout)
        return (shares @ value.to(dtype)).transpose(1, 2).contiguous(), None


def bias(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What is added to the scores. Half of the lowest number: no sum overflows, so a row without any key is no NaN."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min / 2)


AttentionInterface.register(NAME, cpu_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
