"""Model type -> what sets it apart from BERT, as far as batches, gradients and refusals have to know.

Each entry was seen with transformers 5.23 on tiny models; tests/test_model_matrix.py runs them.
"""

from typing import Literal

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

_BOXES = "it reads scanned pages: every token needs its box on the page, and plain text has none"
REFUSED = {
    **dict.fromkeys(("layoutlm", "layoutlmv2", "layoutlmv3", "lilt"), _BOXES),
    "lxmert": "it answers questions about pictures: it needs features of image regions",
    "markuplm": "it reads web pages: every token needs its place in the page's tree, and plain text has none",
}
"""Some of these would take plain text without a word (missing boxes become zeros) and learn next to nothing."""

FIXED_WIDTH = {
    "big_bird": "its attention pattern follows from the row's width, and one short row switches it for good",
    "bigbird_pegasus": "its attention pattern follows from the row's width, and one short row switches it for good",
    "fnet": "it has no attention mask, so padding is part of what it reads",
    "funnel": "it pools neighbouring tokens, padding among them",
}
"""Their logits depend on how far a row is padded. Every row is padded to max_seq_length, so that they do not depend on
the other windows of a batch."""

ONLY_IN_FP32 = {"xmod": "it writes what its adapters compute in half precision into a tensor of full precision"}
"""Model types that transformers cannot run under autocast."""

_NEVER_USED = (".pooler.", ".mask_emb")
"""Parts of names of parameters that no question answering head reads: the pooled CLS, XLNet's masked token."""


def check_head(model_config: PretrainedConfig, name: str, *, has_remote_head: bool) -> None:
    """Raises ValueError, with the reason, where question and context as text are not enough or there is no head."""
    kind = model_config.model_type
    if has_remote_head:
        return
    if kind in REFUSED:
        raise ValueError(f"model {name!r} is of type {kind!r}, which cannot be used here: {REFUSED[kind]}")
    if kind not in MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES:
        raise ValueError(
            f"model {name!r} is of type {kind!r}, for which transformers has no question answering head; "
            "take an encoder such as BERT, RoBERTa, DeBERTa-v2, ELECTRA or ModernBERT"
        )


def check_pair(model_config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError where the model finds the question by special tokens that this tokenizer does not write."""
    if model_config.model_type != "longformer":
        return
    separator = getattr(model_config, "sep_token_id", None)
    ids: list[int] = tokenizer("a", "b")["input_ids"]  # type: ignore[assignment]
    if ids.count(separator) != 3:  # type: ignore[arg-type]
        raise ValueError(
            "longformer finds the question, which gets global attention, by exactly three separators in a window; the "
            f"tokenizer writes {ids.count(separator)} of sep_token_id {separator} (config.json). Take the model's own "  # type: ignore[arg-type]
            "tokenizer, and mend sep_token_id if it is not that of the tokenizer"
        )


def padding_side(model_config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Literal["left", "right"]:
    """The tokenizer's side, but right where left padding would be read or would shift positions."""
    if getattr(model_config, "is_encoder_decoder", False) or model_config.model_type in FIXED_WIDTH:
        return "right"
    return "left" if tokenizer.padding_side == "left" else "right"


def takes_token_types(model_config: PretrainedConfig) -> bool:
    """Whether its embeddings tell more than one type apart. Those of DeBERTa and RoBERTa usually do not."""
    count = getattr(model_config, "type_vocab_size", None)
    return count is None or count > 1


def freeze_what_is_never_used(model: nn.Module) -> list[str]:
    """Names of parameters that get no gradient, now frozen: DDP would wait for it and end the run at the second step."""
    names = []
    for name, parameter in model.named_parameters():
        if any(part in f".{name}" for part in _NEVER_USED):
            parameter.requires_grad_(False)
            names.append(name)
    return names


def describe_tokens(tokenizer: PreTrainedTokenizerBase, model_config: PretrainedConfig, padding_id: int) -> str:
    """Which token stands for "no answer" and what fills a row, as one clause for the console."""
    ids: list[int] = tokenizer("a", "b")["input_ids"]  # type: ignore[assignment]
    present = [token for token in (tokenizer.cls_token_id, tokenizer.bos_token_id) if token in ids]
    null = tokenizer.convert_ids_to_tokens(present[0]) if present else "the first token"
    filler = tokenizer.convert_ids_to_tokens(padding_id)
    which = "" if tokenizer.pad_token_id is not None else ", as there is no pad token"
    side = padding_side(model_config, tokenizer)
    return f'{null} stands for "no answer"; rows are filled on the {side} with {filler}{which}'


def head_modules(qa_model: PreTrainedModel) -> list[str]:
    """Names of the modules that turn the last hidden states into logits."""
    children = {name: child for name, child in qa_model.named_children() if any(True for _ in child.parameters())}
    if qa_model.base_model_prefix in children:
        return [name for name in children if name != qa_model.base_model_prefix]
    return [name for name in children if name.startswith("qa_")]  # T5's encoder and decoder have no module around them


def depths(qa_model: PreTrainedModel) -> dict[str, int]:
    """Name of each parameter -> 0 for the embeddings, 1 to N for the layers in their order, N + 1 for the head.

    Layers are the members of the outermost lists of modules, a decoder's behind its encoder's. What stands between layers
    counts with the one before it.
    """
    heads, layers = head_modules(qa_model), _layers(qa_model)
    found, seen = {}, 0
    for name, _ in qa_model.named_parameters():
        inside = [number for number, layer in enumerate(layers, start=1) if name.startswith(f"{layer}.")]
        seen = inside[0] if inside else seen
        found[name] = len(layers) + 1 if name.partition(".")[0] in heads else seen
    return found


def _layers(module: nn.Module, prefix: str = "") -> list[str]:
    """Names of the members of the outermost lists; a list of lists counts as one long list."""
    names = []
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            for number, member in child.named_children():
                inner = f"{prefix}{name}.{number}"
                lists = isinstance(member, nn.ModuleList)
                names += [f"{inner}.{n}" for n, _ in member.named_children()] if lists else [inner]
        else:
            names += _layers(child, f"{prefix}{name}.")
    return names
