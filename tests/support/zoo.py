"""Architectures with a question answering head: a tiny random model of each, with the kind of tokenizer that it comes with.

Tokenizers know the words of the toy corpus, and nothing in them is drawn by chance. What matters is the form that the
family gives to a pair of texts, which special tokens it has, and on which side it pads; all that follows the published
checkpoints of each family.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import toy
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, AutoModelForQuestionAnswering, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Family:
    """A tokenizer's kind of pieces and the form that it gives to a pair."""

    pieces: Literal["wordpiece", "unigram", "bytes"]
    pair: str
    """Template of a pair; special tokens are in it as they are written."""
    names: dict[str, str] = field(hash=False)
    """cls_token and so on -> the token; ids are given out in this order."""
    token_types: bool = False
    padding_side: str = "right"


BERT_NAMES = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
ROBERTA_NAMES = dict(bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>", mask_token="<mask>")
ROBERTA_NAMES |= dict(cls_token="<s>", sep_token="</s>")
XLNET_NAMES = dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>", cls_token="<cls>", sep_token="<sep>")
XLNET_NAMES |= dict(pad_token="<pad>", mask_token="<mask>")
END = "<|endoftext|>"

FAMILIES = {
    "bert": Family("wordpiece", "[CLS] $A [SEP] $B:1 [SEP]:1", BERT_NAMES, token_types=True),
    "funnel": Family("wordpiece", "[CLS]:2 $A [SEP] $B:1 [SEP]:1", BERT_NAMES, token_types=True),
    "mpnet": Family("wordpiece", "<s> $A </s> </s> $B </s>", ROBERTA_NAMES),
    "albert": Family("unigram", "[CLS] $A [SEP] $B:1 [SEP]:1", BERT_NAMES, token_types=True),
    "bigbird": Family("unigram", "[CLS] $A [SEP] $B [SEP]", BERT_NAMES | dict(bos_token="<s>", eos_token="</s>")),
    "xlm-roberta": Family("unigram", "<s> $A </s> </s> $B </s>", ROBERTA_NAMES),
    "mbart": Family("unigram", "$A $B </s> en_XX", ROBERTA_NAMES | dict(additional_special_tokens="en_XX")),
    "t5": Family("unigram", "$A </s> $B </s>", dict(pad_token="<pad>", eos_token="</s>", unk_token="<unk>")),
    "xlnet": Family("unigram", "$A <sep> $B:1 <sep>:1 <cls>:2", XLNET_NAMES, token_types=True, padding_side="left"),
    "mistral": Family(
        "unigram",
        "<s> $A <s>:1 $B:1",
        dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>"),
        padding_side="left",
    ),
    "roberta": Family("bytes", "<s> $A </s> </s> $B </s>", ROBERTA_NAMES),
    "modernbert": Family("bytes", "[CLS] $A [SEP] $B [SEP]", BERT_NAMES),
    "deberta": Family("bytes", "[CLS] $A [SEP] $B:1 [SEP]:1", BERT_NAMES, token_types=True),
    "gpt2": Family("bytes", "$A $B", dict(bos_token=END, eos_token=END, unk_token=END)),
    "llama": Family(
        "bytes",
        "<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
        dict(bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"),
        padding_side="left",
    ),
    "qwen": Family("bytes", "$A $B", dict(pad_token=END, eos_token="<|im_end|>")),
}


@dataclass(frozen=True)
class Kind:
    """An architecture and what is expected of it."""

    family: str
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    """What its tiny config has in addition to SIZES; None removes a name of these."""
    null: Literal["first", "last"] = "first"
    """Which token of a window represents "no answer"."""
    types: bool = False
    """Whether it is given token_type_ids."""
    model_type: str | None = None
    """Where it differs from the name under which the matrix shows it."""


SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, initializer_range=0.2)
SIZES |= dict(max_position_embeddings=128)
T5_SIZES = dict(d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, initializer_factor=3.0)
BART_SIZES = dict(d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2)
BART_SIZES |= dict(encoder_ffn_dim=64, decoder_ffn_dim=64, init_std=0.2)
DECODER_SIZES = dict(num_key_value_heads=1, head_dim=16)
OF_THEIR_OWN = dict.fromkeys(SIZES)  # they have other names for these, and refuse the usual ones
KINDS = {
    "albert": Kind("albert", dict(embedding_size=16), types=True),
    "bart": Kind("roberta", BART_SIZES),
    "bert": Kind("bert", types=True),
    "big_bird": Kind("bigbird", dict(block_size=4, num_random_blocks=1)),
    "camembert": Kind("xlm-roberta"),
    "deberta-v2": Kind("albert", dict(type_vocab_size=0)),
    "deberta-v3": Kind(
        "albert",
        dict(relative_attention=True, position_buckets=16, pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm")
        | dict(share_att_key=True, position_biased_input=False, type_vocab_size=0, max_relative_positions=-1),
        model_type="deberta-v2",
    ),
    "distilbert": Kind("bert", dict(dim=32, n_layers=2, n_heads=2, hidden_dim=64)),
    "electra": Kind("bert", dict(embedding_size=16), types=True),
    "fnet": Kind("albert", types=True),
    "funnel": Kind(
        "funnel",
        dict(d_model=32, n_head=2, d_head=16, d_inner=64, block_sizes=[1, 1, 1], num_decoder_layers=1) | OF_THEIR_OWN,
        types=True,
    ),
    "gpt2": Kind("gpt2", dict(n_embd=32, n_layer=2, n_head=2, n_positions=128)),
    "llama": Kind("llama", DECODER_SIZES),
    "longformer": Kind("roberta", dict(attention_window=8)),
    "mbart": Kind("mbart", BART_SIZES),
    "mistral": Kind("mistral", DECODER_SIZES | dict(sliding_window=16)),
    "mobilebert": Kind(
        "bert",
        dict(embedding_size=16, intra_bottleneck_size=32, true_hidden_size=32, initializer_range=0.1),
        types=True,
    ),
    "modernbert": Kind(
        "modernbert", dict(local_attention=16, global_attn_every_n_layers=2, bos_token_id=2, eos_token_id=3)
    ),
    "mpnet": Kind("mpnet"),
    "qwen2": Kind("qwen", DECODER_SIZES),
    "qwen3": Kind("qwen", DECODER_SIZES),
    "roberta": Kind("roberta"),
    "squeezebert": Kind("bert", dict(embedding_size=32), types=True),
    "t5": Kind("t5", T5_SIZES),
    "xlm-roberta": Kind("xlm-roberta"),
    "xlnet": Kind("xlnet", dict(d_model=32, n_layer=2, n_head=2, d_inner=64) | OF_THEIR_OWN, null="last", types=True),
}


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    made = FAMILIES[family]
    special = list(dict.fromkeys(made.names.values()))
    core = {"wordpiece": _wordpiece, "unigram": _unigram, "bytes": _bytes}[made.pieces](
        special, made.names.get("unk_token")
    )
    ids = {token: core.token_to_id(token) for token in special}
    single = made.pair.partition("$B")[0].rstrip()
    used = [(token, number) for token, number in ids.items() if token in made.pair]
    core.post_processor = processors.TemplateProcessing(single=single, pair=made.pair, special_tokens=used)
    names: dict[str, Any] = dict(made.names)
    if "additional_special_tokens" in names:
        names["additional_special_tokens"] = [names["additional_special_tokens"]]
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if made.token_types else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=128, model_input_names=inputs, padding_side=made.padding_side, **names
    )


def make(name: str, folder: Path) -> Path:
    """The tiny model and its tokenizer, saved as a checkpoint is."""
    kind = KINDS[name]
    tokenizer = tokenizer_of(kind.family)
    ids = {key: getattr(tokenizer, key) for key in ("pad_token_id", "bos_token_id", "eos_token_id")}
    ids |= {key: getattr(tokenizer, key) for key in ("cls_token_id", "sep_token_id")}
    model_type = kind.model_type or name
    if model_type in ("bart", "mbart", "t5"):
        ids["decoder_start_token_id"] = tokenizer.eos_token_id if model_type != "t5" else tokenizer.pad_token_id
    settings = {key: value for key, value in (SIZES | ids | kind.settings).items() if value is not None}
    config = CONFIG_MAPPING[model_type](vocab_size=len(tokenizer), **settings)
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = AutoModelForQuestionAnswering.from_config(config)
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def _texts() -> tuple[str, ...]:
    texts = [toy.context_about(name) for name in toy.NAMES]
    return (*texts, *(entry["question"] for name in toy.NAMES for entry in toy.questions_about(name, "")))


def _wordpiece(special: list[str], unknown: str | None) -> Tokenizer:
    core = Tokenizer(models.WordPiece(toy.vocabulary(special), unk_token=unknown))  # pyright: ignore
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    return core


def _unigram(special: list[str], unknown: str | None) -> Tokenizer:
    marks = pre_tokenizers.Metaspace()
    words = {word for text in _texts() for word, _ in marks.pre_tokenize_str(text)}
    letters = {letter for word in words for letter in word}
    pieces = [(token, 0.0) for token in special]
    pieces += [(letter, -10.0) for letter in sorted(letters)] + [(word, -5.0) for word in sorted(words - letters)]
    core = Tokenizer(models.Unigram(pieces, special.index(unknown), False))  # pyright: ignore
    core.pre_tokenizer, core.decoder = marks, decoders.Metaspace()  # pyright: ignore
    return core


def _bytes(special: list[str], unknown: str | None) -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = {word for text in _texts() for word, _ in alphabet.pre_tokenize_str(text)}
    # words after a blank first: a merge that is earlier in the list wins, and the blank is to become part of the word
    words = sorted(words, key=lambda word: (not word.startswith("Ġ"), word))
    merges = list(dict.fromkeys((word[:n], word[n]) for word in words for n in range(1, len(word))))
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in merges)]
    numbers = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    core = Tokenizer(models.BPE(numbers, merges))
    core.pre_tokenizer, core.decoder = alphabet, decoders.ByteLevel()  # pyright: ignore
    return core
