"""A fast tokenizer -> one that its folder alone describes, and back from that folder. No torch, which AutoTokenizer imports.

transformers' classes for model types bring settings that are in no file: BERT's token types, say. Here every setting that
answering needs is written out, so that the class of all fast tokenizers, `PreTrainedTokenizerFast`, reads the same tokenizer.
"""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from qa_accel.messages import short
from qa_accel.models.model_folder import mapping, reading

FILE = "tokenizer.json"
SETTINGS = ("model_max_length", "model_input_names", "padding_side", "split_special_tokens")
IDS = ("cls_token_id", "bos_token_id", "pad_token_id", "eos_token_id")
"""Which token represents "no answer", and which fills a row."""


def plain(tokenizer: Any) -> PreTrainedTokenizerFast:
    """The same tokenizer, a copy, without a class of its own."""
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.no_truncation()
    core.no_padding()
    settings = {name: getattr(tokenizer, name, None) for name in SETTINGS}
    settings["model_input_names"] = list(tokenizer.model_input_names)
    settings["split_special_tokens"] = bool(settings["split_special_tokens"])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, clean_up_tokenization_spaces=False, **settings, **tokenizer.special_tokens_map
    )


def load(folder: str) -> PreTrainedTokenizerFast:
    """From a folder that `plain(...).save_pretrained` wrote. Raises ValueError for missing or damaged files."""
    for name in (FILE, "tokenizer_config.json"):
        if not Path(folder, name).is_file():
            raise ValueError(f"tokenizer {folder!r} has no {name}; copy the whole folder, or export the model again")
        mapping(folder, name)
    with reading("tokenizer", folder):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    check(tokenizer, folder)
    return tokenizer


def check(tokenizer: Any, name: str) -> None:
    """Raises ValueError for settings of a wrong type, and for a tokenizer that makes no tokens."""
    names = tokenizer.model_input_names
    for key, expected, right in (
        ("model_max_length", "a number", type(tokenizer.model_max_length) in (int, float)),
        ("model_input_names", "a list with input_ids", isinstance(names, list | tuple) and "input_ids" in names),
    ):
        if not right:
            found = short(repr(getattr(tokenizer, key)))
            raise ValueError(f"tokenizer {name!r}: tokenizer_config.json has {key} {found}; expected {expected}")
    with reading("tokenizer", name):  # other settings of a wrong type fail only when they are used
        ids = tokenizer("a", "b", return_offsets_mapping=True)["input_ids"]
    if not ids:
        raise ValueError(
            f"tokenizer {name!r} makes no token of a question and its context; its tokenizer.json is damaged"
        )


def difference(one: Any, other: Any, pairs: list[tuple[str, str]]) -> str | None:
    """What two tokenizers do differently to these pairs of texts, or None."""
    for name in (*SETTINGS[:3], *IDS):
        found, expected = getattr(one, name), getattr(other, name)
        if name == "model_input_names":
            found, expected = set(found), set(expected)
        if found != expected:
            return f"{name} {found}, not {expected}"
    for pair in pairs:
        encoded = [tokenizer(*pair, return_offsets_mapping=True) for tokenizer in (one, other)]
        for key in ("input_ids", "token_type_ids", "offset_mapping"):
            if encoded[0].get(key) != encoded[1].get(key):
                return f"other {key} for {short(repr(pair))}"
    return None
