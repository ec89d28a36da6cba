"""Model type -> what distinguishes it from BERT, for refusals, batches and gradients. And: the layers of a model.

`ARCHITECTURES` is the only place for facts about a model type; docs/models.md is checked against it. Each entry was observed
with transformers 5.23 on tiny models (tests/models/test_attention.py, tests/system/test_model_matrix.py).
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import (
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_MAPPING,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES
from transformers.tokenization_utils_base import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Architecture:
    """One row of the table. The defaults describe a model type that has not been tested."""

    not_usable: str | None = None
    """Why text alone is not enough for the question answering head; such a model is refused."""
    positions_after_padding: bool = False
    """RoBERTa's numbering: the first position of a window is pad_token_id + 1, not 0."""
    token_types: bool = True
    """Whether the embeddings take token_type_ids; how many types there are is in the model's config."""
    separators: int | None = None
    """How many separators a window must have, for a head that locates the question by them."""
    fixed_width: str | None = None
    """Why logits depend on the width of a padded row. All rows are then padded on the right to max_seq_length, so that
    logits do not depend on the other windows of a batch."""
    fp32_only: str | None = None
    """Why transformers cannot run the model under autocast."""
    packable: bool = False
    """Whether packed logits and gradients equal padded ones in tests/models/test_attention.py."""
    not_packable: str | None = None
    """Why packed rows would give other logits, where that is known."""
    post_norm: bool = False
    """Of a packable type: whether each residual sum goes through a layer norm, as in BERT. HalfLayerNorm requires it."""

    def __post_init__(self):
        assert not (self.packable and self.not_packable), "packable, or a reason why not"


_PAGE = "it reads scanned pages: every token needs its box on the page, and plain text has none"
# LiLT and LayoutLMv3 accept plain text without an error (missing boxes become zeros) and learn next to nothing
_PICTURE = "it answers questions about pictures: it needs features of image regions"
_MARKUP = "it reads web pages: every token needs its place in the page's tree, and plain text has none"

_PATTERN = "its attention pattern depends on the width of the row, and one short row changes it for the rest of the run"
_NO_MASK = "it has no attention mask, so it reads padding as text"
_POOLING = "it pools neighbouring tokens, and padding with them"

_MIXED_TYPES = "its adapters write half-precision results into a full-precision tensor"

_RELATIVE = "its attention adds a bias for the distance between two tokens of the row, also across windows"
_FIXED_ATTENTION = (
    "its attention function cannot be replaced, so tokens would attend to other windows without any error"
)
_NEIGHBOURS = "it mixes neighbouring tokens of the row outside of attention, also across windows"
_FP32_PACKED = "it runs in fp32 only, for which packed attention has no kernel"
_ONE_WINDOW = "its head looks for question tokens in each row and expects one window per row"

ARCHITECTURES = {
    "albert": Architecture(packable=True, post_norm=True),
    "bert": Architecture(packable=True, post_norm=True),
    "big_bird": Architecture(fixed_width=_PATTERN, not_packable=_FIXED_ATTENTION),
    "bigbird_pegasus": Architecture(fixed_width=_PATTERN),
    "camembert": Architecture(positions_after_padding=True, packable=True, post_norm=True),
    "canine": Architecture(not_packable=_NEIGHBOURS),
    "convbert": Architecture(not_packable=_NEIGHBOURS),
    "data2vec-text": Architecture(positions_after_padding=True, packable=True, post_norm=True),
    "deberta": Architecture(not_packable=_RELATIVE),
    "deberta-v2": Architecture(not_packable=_RELATIVE),
    "distilbert": Architecture(token_types=False, packable=True, post_norm=True),
    "electra": Architecture(packable=True, post_norm=True),
    "ernie": Architecture(packable=True, post_norm=True),
    "esm": Architecture(positions_after_padding=True),
    "flaubert": Architecture(not_packable=_FIXED_ATTENTION),
    "fnet": Architecture(fixed_width=_NO_MASK, not_packable=_NEIGHBOURS),
    "funnel": Architecture(fixed_width=_POOLING, not_packable=_RELATIVE),
    "ibert": Architecture(positions_after_padding=True, not_packable=_FIXED_ATTENTION),
    "jina_embeddings_v3": Architecture(packable=True, post_norm=True),
    "layoutlm": Architecture(not_usable=_PAGE),
    "layoutlmv2": Architecture(not_usable=_PAGE, not_packable=_FIXED_ATTENTION),
    "layoutlmv3": Architecture(not_usable=_PAGE, not_packable=_FIXED_ATTENTION),
    "lilt": Architecture(not_usable=_PAGE, positions_after_padding=True, not_packable=_FIXED_ATTENTION),
    "longformer": Architecture(positions_after_padding=True, separators=3, not_packable=_FIXED_ATTENTION),
    "luke": Architecture(positions_after_padding=True, not_packable=_FIXED_ATTENTION),
    "lxmert": Architecture(not_usable=_PICTURE, not_packable=_FIXED_ATTENTION),
    "markuplm": Architecture(not_usable=_MARKUP, positions_after_padding=True),
    "megatron-bert": Architecture(not_packable=_FIXED_ATTENTION),
    "mobilebert": Architecture(packable=True, post_norm=True),
    "modernbert": Architecture(token_types=False, packable=True),
    "mpnet": Architecture(positions_after_padding=True, not_packable=_RELATIVE),
    "mra": Architecture(not_packable=_FIXED_ATTENTION),
    "nystromformer": Architecture(not_packable=_FIXED_ATTENTION),
    "reformer": Architecture(not_packable=_FIXED_ATTENTION),
    "rembert": Architecture(not_packable=_FIXED_ATTENTION),
    "roberta": Architecture(positions_after_padding=True, packable=True, post_norm=True),
    "roberta-prelayernorm": Architecture(positions_after_padding=True, packable=True),
    "roformer": Architecture(not_packable=_FIXED_ATTENTION),
    "splinter": Architecture(not_packable=_ONE_WINDOW),
    "squeezebert": Architecture(not_packable=_FIXED_ATTENTION),
    "ultrabert": Architecture(token_types=False, packable=True),
    "xlm": Architecture(not_packable=_FIXED_ATTENTION),
    "xlm-roberta": Architecture(positions_after_padding=True, packable=True, post_norm=True),
    "xlm-roberta-xl": Architecture(positions_after_padding=True, packable=True),
    "xlnet": Architecture(not_packable=_RELATIVE),
    "xmod": Architecture(positions_after_padding=True, fp32_only=_MIXED_TYPES, not_packable=_FP32_PACKED),
    "yoso": Architecture(not_packable=_FIXED_ATTENTION),
}

UNTESTED = Architecture()
"""The row of all other model types."""

PACKABLE = sorted(model_type for model_type, row in ARCHITECTURES.items() if row.packable)

_NEVER_USED = (".pooler.", ".mask_emb")
"""Parts of names of parameters that no question answering head reads: the pooled CLS, XLNet's masked token."""


def architecture(model_config: PretrainedConfig) -> Architecture:
    return ARCHITECTURES.get(model_config.model_type, UNTESTED)


def check_head(model_config: PretrainedConfig, name: str, *, has_remote_head: bool) -> None:
    """Raises ValueError, with the reason, if there is no question answering head or text alone is not enough for it."""
    model_type = model_config.model_type
    if has_remote_head:
        return
    not_usable = architecture(model_config).not_usable
    if not_usable is not None:
        raise ValueError(f"model {name!r} is of type {model_type!r}, which cannot be used here: {not_usable}")
    if model_type not in MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES:
        raise ValueError(
            f"model {name!r} is of type {model_type!r}, for which transformers has no question answering head; "
            "take an encoder such as BERT, RoBERTa, DeBERTa-v2, ELECTRA or ModernBERT"
        )


def key_mapping(model_config: PretrainedConfig) -> dict[str, str] | None:
    """Names of a published checkpoint's weights -> those in the question answering model, as patterns; None: the same.

    transformers keeps Llama's and Qwen's decoder under "transformer" with this head, under "model" with every other.
    Without the mapping it finds no weight, and the whole model is random.
    """
    with_head: Any = MODEL_FOR_QUESTION_ANSWERING_MAPPING.get(type(model_config), None)
    plain: Any = MODEL_MAPPING.get(type(model_config), None)
    plain = plain[0] if isinstance(plain, tuple) else plain
    if with_head is None or plain is None or with_head.base_model_prefix == plain.base_model_prefix:
        return None
    return {rf"^{plain.base_model_prefix}\.": f"{with_head.base_model_prefix}."}


def check_pair(model_config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError if the head locates the question by separators that this tokenizer does not write."""
    expected = architecture(model_config).separators
    if expected is None:
        return
    separator = getattr(model_config, "sep_token_id", None)
    ids: list[int] = tokenizer("a", "b")["input_ids"]  # type: ignore[assignment]
    found = ids.count(separator)  # type: ignore[arg-type]
    if found != expected:
        raise ValueError(
            f"{model_config.model_type} locates the question, which gets global attention, by exactly {expected} separators "
            f"in a window; the tokenizer writes {found} of sep_token_id {separator} (config.json). Use the model's own "
            "tokenizer, and correct sep_token_id if it is not the tokenizer's"
        )


def padding_side(model_config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Literal["left", "right"]:
    """The tokenizer's side, but right if the model would read left padding or count it as positions."""
    if getattr(model_config, "is_encoder_decoder", False) or architecture(model_config).fixed_width is not None:
        return "right"
    return "left" if tokenizer.padding_side == "left" else "right"


def first_position(model_config: PretrainedConfig) -> int:
    """Position id of a window's first token."""
    if not architecture(model_config).positions_after_padding:
        return 0
    padding = getattr(model_config, "pad_token_id", None)
    return (1 if padding is None else padding) + 1


def takes_token_types(model_config: PretrainedConfig) -> bool:
    """Whether the embeddings distinguish more than one token type. Those of DeBERTa and RoBERTa usually do not."""
    count = getattr(model_config, "type_vocab_size", None)
    return architecture(model_config).token_types and (count is None or count > 1)


def packed_support(model_config: PretrainedConfig) -> tuple[bool, str]:
    """Whether the model can run packed batches, and the reason, as a clause for messages."""
    model_type, row = model_config.model_type, architecture(model_config)
    if row.not_packable is not None:
        return False, f"{model_type} cannot be packed: {row.not_packable}"
    if not row.packable:
        return (
            False,
            f"{model_type} is not among the architectures whose packed logits were shown to equal the padded ones",
        )
    if getattr(model_config, "is_decoder", False):
        return (
            False,
            f"this {model_type} is configured as a decoder (is_decoder): a token sees only the tokens before it",
        )
    return True, f"{model_type} gives the same logits packed and padded"


def freeze_what_is_never_used(model: nn.Module) -> list[str]:
    """Freezes parameters that get no gradient and returns their names: DDP would wait for it and fail at the second step."""
    names = []
    for name, parameter in model.named_parameters():
        if is_never_used(name):
            parameter.requires_grad_(False)
            names.append(name)
    return names


def is_never_used(parameter: str) -> bool:
    return any(part in f".{parameter}" for part in _NEVER_USED)


def describe_tokens(tokenizer: PreTrainedTokenizerBase, model_config: PretrainedConfig, padding_id: int) -> str:
    """Which token represents "no answer" and which one fills a row, as a clause for the console."""
    ids: list[int] = tokenizer("a", "b")["input_ids"]  # type: ignore[assignment]
    present = [token for token in (tokenizer.cls_token_id, tokenizer.bos_token_id) if token in ids]
    null = tokenizer.convert_ids_to_tokens(present[0]) if present else "the first token"
    filler = tokenizer.convert_ids_to_tokens(padding_id)
    which = "" if tokenizer.pad_token_id is not None else ", as there is no pad token"
    side = padding_side(model_config, tokenizer)
    return f'{null} represents "no answer"; rows are filled on the {side} with {filler}{which}'


def head_modules(qa_model: PreTrainedModel) -> list[str]:
    """Names of the modules that turn the last hidden states into logits."""
    children = {name: child for name, child in qa_model.named_children() if any(True for _ in child.parameters())}
    if qa_model.base_model_prefix in children:
        return [name for name in children if name != qa_model.base_model_prefix]
    return [name for name in children if name.startswith("qa_")]  # T5's encoder and decoder have no module around them


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> layer, in their order: the members of the outermost lists of modules, a list of lists counted as one list.

    A decoder's layers follow its encoder's. Lists inside of layers do not count.
    """
    found = {}

    def collect(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            if isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList):
                found[prefix + name] = child
            else:
                collect(child, f"{prefix}{name}.")

    collect(model, "")
    return found


def depths(qa_model: PreTrainedModel) -> dict[str, int]:
    """Name of each parameter -> 0 for the embeddings, 1 to N for the layers in their order, N + 1 for the head.

    A module between two layers counts with the first of them.
    """
    heads, names = head_modules(qa_model), list(layers(qa_model))
    found, seen = {}, 0
    for name, _ in qa_model.named_parameters():
        inside = [number for number, layer in enumerate(names, start=1) if name.startswith(f"{layer}.")]
        seen = inside[0] if inside else seen
        found[name] = len(names) + 1 if name.partition(".")[0] in heads else seen
    return found
