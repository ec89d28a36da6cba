"""Attention for packed rows: windows that lie end to end in one row attend to themselves only.

Registered with transformers as "packed": from_pretrained(..., attn_implementation="packed"), and what PackedCollator
puts beside the tokens (cu_seq_lens_q, max_length_q) comes through the model's forward to here. On CUDA in half precision
torch's varlen_attn does the work; on a CPU one window after the other; elsewhere, and where a CPU compiles, a reference of
static shapes, which brings the row back to one row per window and is slower. None of them has attention dropout.

An architecture takes part once tests/test_attention.py has shown its packed logits and gradients to equal the padded
ones; PROVEN lists these. What a model must do for it: hand its keyword arguments down to a registered attention function,
take position_ids, and let no other part of it look along the row.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.models.mobilebert.modeling_mobilebert import MobileBertEmbeddings


@dataclass(frozen=True)
class PackedInputs:
    """What an architecture takes beside the tokens."""

    token_types: bool = True
    """Whether there are token_type_ids."""
    positions_after_padding: bool = False
    """RoBERTa's numbering: a window's first position is pad_token_id + 1, not 0."""
    post_norm: bool = True
    """Whether every residual sum goes through a layer norm at once, as in BERT; then it bears rounding to half precision."""

    def position_offset(self, model_config: PretrainedConfig) -> int:
        return model_config.pad_token_id + 1 if self.positions_after_padding else 0


PROVEN = {
    "albert": PackedInputs(),
    "bert": PackedInputs(),
    "camembert": PackedInputs(positions_after_padding=True),
    "data2vec-text": PackedInputs(positions_after_padding=True),
    "distilbert": PackedInputs(token_types=False),
    "electra": PackedInputs(),
    "ernie": PackedInputs(),
    "jina_embeddings_v3": PackedInputs(token_types=False),
    "mobilebert": PackedInputs(),
    "modernbert": PackedInputs(token_types=False, post_norm=False),
    "roberta": PackedInputs(positions_after_padding=True),
    "roberta-prelayernorm": PackedInputs(positions_after_padding=True, post_norm=False),
    "ultrabert": PackedInputs(token_types=False, post_norm=False),
    "xlm-roberta": PackedInputs(positions_after_padding=True),
    "xlm-roberta-xl": PackedInputs(positions_after_padding=True, post_norm=False),
}

_RELATIVE = "its attention adds a bias for the distance of two tokens along the row, across windows too"
_OWN = (
    "its attention is code of its own that no registered function can replace: it would look across windows in silence"
)
_MIXED = "it mixes neighbouring tokens along the row outside of attention, across windows too"
REFUSED = {
    **dict.fromkeys(("deberta", "deberta-v2", "mpnet", "xlnet", "funnel"), _RELATIVE),
    **dict.fromkeys(("big_bird", "flaubert", "ibert", "lilt", "longformer", "luke", "lxmert"), _OWN),
    **dict.fromkeys(("layoutlmv2", "layoutlmv3", "megatron-bert", "mra", "nystromformer", "reformer"), _OWN),
    **dict.fromkeys(("rembert", "roformer", "squeezebert", "xlm", "yoso"), _OWN),
    **dict.fromkeys(("canine", "convbert", "fnet"), _MIXED),
    "xmod": "it runs in fp32 only, for which packed attention has no kernel",
    "splinter": "its head looks for question tokens in each row, and takes the row for one window",
}


def packed_support(model_config: PretrainedConfig) -> tuple[bool, str]:
    """Whether the model can run packed batches, and why (not), as an end of a sentence."""
    kind = model_config.model_type
    if kind in REFUSED:
        return False, f"{kind} cannot: {REFUSED[kind]}"
    if kind not in PROVEN:
        return False, f"{kind} is not among the architectures whose packed logits were shown to equal the padded ones"
    if getattr(model_config, "is_decoder", False):
        return False, f"this {kind} is set up as a decoder (is_decoder): a token sees only what stands before it"
    return True, f"{kind} gives the same logits packed and padded"


def use_packed_attention(model: PreTrainedModel) -> None:
    """From here on the model takes packed batches, and no others."""
    supported, reason = packed_support(model.config)
    if not supported:
        raise ValueError(f"packed batches: {reason}; use padded batches")
    model.set_attn_implementation("packed")
    for module in model.modules():
        if type(module) is MobileBertEmbeddings and module.trigram_input:
            PackedMobileBertEmbeddings.replace(module)


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
    """query, key, value (1, heads, T, d) -> (1, T, heads, d). sliding_window: a token sees those less far away than this."""
    assert cu_seq_lens_q is not None and max_length_q is not None, "packed attention needs what PackedCollator gives"
    radius = None if sliding_window is None else sliding_window - 1
    if key.shape[1] < query.shape[1]:  # grouped queries: heads share a key and a value
        key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
    q_Thd, k_Thd, v_Thd = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
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
    elif query.device.type == "cpu" and not torch.compiler.is_compiling():
        out_Thd = window_by_window(q_Thd, k_Thd, v_Thd, cu_seq_lens_q, scaling, radius)
    else:
        out_Thd = reference_attention(q_Thd, k_Thd, v_Thd, cu_seq_lens_q, max_length_q, scaling, radius)
    return out_Thd[None], None  # type: ignore[index]


NO_KERNEL = "packed attention in half precision needs a GPU from Ampere on, and a torch that was built with its kernel"


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
    """(T, heads, d): SDPA on one window after the other. On a CPU a call costs little, and nothing is padded."""
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
    """(T, heads, d): each window as a row of its own (S of them, L = longest), SDPA with a mask, and back.

    All shapes follow from those of the arguments, so that it compiles once.
    """
    T, S = len(q_Thd), len(boundaries) - 1
    boundaries = boundaries.long()
    first_S, length_S = boundaries[:-1], boundaries.diff()
    column_L = torch.arange(longest, device=q_Thd.device)
    source = (first_S[:, None] + column_L).clamp(max=T - 1).flatten()
    q, k, v = (x.index_select(0, source).unflatten(0, (S, longest)).transpose(1, 2) for x in (q_Thd, k_Thd, v_Thd))
    # the first column always counts: a softmax over nothing, in a window of no tokens, would be NaN
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


class PackedMobileBertEmbeddings(MobileBertEmbeddings):
    """MobileBERT embeds a token together with its two neighbours in the row; at a window's ends they are another's.

    There it gets what a padded row shows it: zeros before the first token, padding behind the last one.
    """

    @classmethod
    def replace(cls, embeddings: MobileBertEmbeddings) -> None:
        embeddings.__class__ = cls  # the weights stay where they are, and keep their names
        embeddings.trigram_input = False  # they are made here
        embeddings.embedding_size = 0  # anything but the hidden size: so that the trigrams are still projected to it

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
    ) -> torch.Tensor:
        assert input_ids is not None and position_ids is not None, "PackedCollator gives both"
        padding = self.word_embeddings.padding_idx
        assert padding is not None, "MobileBERT has a padding id"
        first = position_ids == 0
        next_ids = torch.where(first.roll(-1, dims=1), padding, input_ids.roll(-1, dims=1))
        own = self.word_embeddings(input_ids)
        previous = own.roll(1, dims=1).masked_fill(first[..., None], 0)
        trigrams = torch.cat([self.word_embeddings(next_ids), own, previous], dim=2)
        return super().forward(token_type_ids=token_type_ids, position_ids=position_ids, inputs_embeds=trigrams)


AttentionInterface.register("packed", packed_attention)
AttentionMaskInterface.register("packed", lambda *args, **kwargs: None)  # cu_seq_lens_q says it all
