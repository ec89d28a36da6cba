"""Attention functions that are registered with transformers: "packed" for packed rows, "cpu" for training on a CPU.

Packed: windows are concatenated in one row, and each token attends to its own window only. The arguments that PackedCollator
adds to the tokens (cu_seq_lens_q, max_length_q) pass through the model's forward to `packed_attention`. On CUDA in half
precision it calls torch's varlen_attn; on a CPU it runs one window after the other. Everywhere else, and if a CPU compiles, it
runs a reference with static shapes, which restores one row per window and is slower. None of them has attention dropout.

A model type is packable (models/architectures.py) if tests/models/test_attention.py shows that its packed logits and
gradients equal the padded ones. Such a model must pass its keyword arguments on to a registered attention function, take
position_ids, and must not mix tokens of a row anywhere else.

CPU: blocks of scores that stay in the cache (cpu_attention.py), or where a CPU compiles, a bias is learned
or everything is dropped, operations on whole batches.
torch's fused kernel for the CPU has no dropout. In evaluation `cpu_attention` is that kernel, as in prediction.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from qa_accel.models.architectures import packed_support
from qa_accel.models.cpu_attention import bias, block_attention
from qa_accel.models.fast_layers import VALUES
from qa_accel.models.fast_layers import dropout as drop

PACKED, CPU = "packed", "cpu"
"""Names under which transformers knows the two."""

NO_VARLEN_KERNEL = (
    "packed attention in half precision needs a GPU from Ampere on, and a torch that was built with its kernel"
)


def use_packed_attention(model: PreTrainedModel) -> None:
    """Changes the model so that it takes packed batches, and no others. Raises ValueError if it is not packable."""
    supported, reason = packed_support(model.config)
    if not supported:
        raise ValueError(f"packed batches: {reason}; use padded batches")
    model.set_attn_implementation(PACKED)
    if model.config.model_type == "mobilebert":
        from qa_accel.models import packed_mobilebert  # imports transformers' code of that model

        packed_mobilebert.replace_embeddings(model)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """query, key, value (1, heads, T, d) -> (1, T, heads, d). sliding_window: a token sees tokens at a smaller distance."""
    assert cu_seq_lens_q is not None and max_length_q is not None, "packed attention requires batches of PackedCollator"
    radius = None if sliding_window is None else sliding_window - 1
    if key.shape[1] < query.shape[1]:  # grouped queries: heads share a key and a value
        key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
    q_Thd, k_Thd, v_Thd = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    device_type = query.device.type
    dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else query.dtype
    if kernel_takes(q_Thd, dtype):
        out_Thd = varlen_attn(
            q_Thd.to(dtype),
            k_Thd.to(dtype),
            v_Thd.to(dtype),
            cu_seq_lens_q,
            cu_seq_lens_q,
            max_length_q,
            max_length_q,
            scale=scaling,
            window_size=(-1, -1) if radius is None else (radius, radius),
        )
    elif device_type == "cpu" and not torch.compiler.is_compiling():
        out_Thd = window_by_window(q_Thd, k_Thd, v_Thd, cu_seq_lens_q, scaling, radius)
    else:
        out_Thd = reference_attention(q_Thd, k_Thd, v_Thd, cu_seq_lens_q, max_length_q, scaling, radius)
    return out_Thd[None], None  # type: ignore[index]


def kernel_is_here() -> bool:
    """Whether varlen_attn runs on this process's GPU."""
    return torch.backends.cuda.is_flash_attention_available() and torch.cuda.get_device_capability() >= (8, 0)


def kernel_takes(q_Thd: torch.Tensor, dtype: torch.dtype) -> bool:
    head_dim = q_Thd.shape[-1]
    return q_Thd.is_cuda and dtype in (torch.bfloat16, torch.float16) and head_dim % 8 == 0 and head_dim <= 256


def window_by_window(
    q_Thd: torch.Tensor,
    k_Thd: torch.Tensor,
    v_Thd: torch.Tensor,
    boundaries: torch.Tensor,
    scaling: float | None,
    radius: int | None,
) -> torch.Tensor:
    """(T, heads, d): SDPA on one window after the other. A call is cheap on a CPU, and there is no padding."""
    lengths = boundaries.diff().tolist()
    pieces = []
    for q, k, v in zip(q_Thd.split(lengths), k_Thd.split(lengths), v_Thd.split(lengths)):
        near = None
        if radius is not None:
            place = torch.arange(len(q))
            near = (place[:, None] - place).abs() <= radius
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=near, scale=scaling)
        pieces.append(out[0].transpose(0, 1))
    return torch.cat(pieces)


def reference_attention(
    q_Thd: torch.Tensor,
    k_Thd: torch.Tensor,
    v_Thd: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    scaling: float | None,
    radius: int | None,
) -> torch.Tensor:
    """(T, heads, d): one row per window (S windows, L = longest), SDPA with a mask, and back to one row.

    All shapes depend on the shapes of the arguments only, so that it compiles once.
    """
    T, S = len(q_Thd), len(boundaries) - 1
    boundaries = boundaries.long()
    first_S, length_S = boundaries[:-1], boundaries.diff()
    column_L = torch.arange(longest, device=q_Thd.device)
    source = (first_S[:, None] + column_L).clamp(max=T - 1).flatten()
    q, k, v = (x.index_select(0, source).unflatten(0, (S, longest)).transpose(1, 2) for x in (q_Thd, k_Thd, v_Thd))
    # the first column is never masked: a softmax without any key, in a window without tokens, would be NaN
    seen_SL = column_L < length_S[:, None].clamp(min=1)
    seen = seen_SL[:, None, None, :]
    if radius is not None:
        distance_LL = (column_L[:, None] - column_L).abs()
        seen = (seen & (distance_LL <= radius)) | (distance_LL == 0)
    out_ShLd = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scaling)
    token_T = torch.arange(T, device=q_Thd.device)
    window_T = torch.searchsorted(boundaries, token_T, right=True) - 1
    place_T = window_T * longest + token_T - first_S[window_T]
    return out_ShLd.transpose(1, 2).flatten(0, 1).index_select(0, place_T)


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
    with torch.autocast("cpu", enabled=False):  # else softmax returns fp32, which the next product rounds
        learned_bias = attention_mask is not None and attention_mask.requires_grad
        if not (torch.compiler.is_compiling() or learned_bias or round(dropout * VALUES) == VALUES):
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
            return block_attention(query, key, value, attention_mask, dropout=dropout, factor=factor), None
        scores = (query * factor).to(dtype) @ key.to(dtype).transpose(2, 3)
        if attention_mask is not None:
            scores += bias(attention_mask, dtype)
        shares = scores.softmax(dim=-1)
        if dropout:
            shares = drop(shares, dropout)
        return (shares @ value.to(dtype)).transpose(1, 2).contiguous(), None


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, lambda *args, **kwargs: None)  # no mask: boundaries are in cu_seq_lens_q
AttentionInterface.register(CPU, cpu_attention)
AttentionMaskInterface.register(CPU, sdpa_mask)
