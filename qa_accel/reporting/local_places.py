"""Settings that name files and folders of one machine -> their names alone: cards and reports are passed on."""

import os
from typing import Any

from qa_accel.hub import is_hub_id

FILES = ("train_file", "validation_file", "test_file")
PLACES = ("output_dir", "cache_dir", "resume_from_checkpoint")
NAMES_OR_PLACES = ("model_name_or_path", "tokenizer_name", "dataset_name")


def without_place(name: str, value: Any) -> Any:
    """A setting's value without the folders that lead to a file."""
    if name in FILES and value is not None:
        names = map(last_part, value)
        return [f"./{one}" if one.startswith("-") else one for one in names]  # else it would be a flag
    is_place = name in PLACES and value not in ("auto", "no")
    if isinstance(value, str) and (is_place or (name in NAMES_OR_PLACES and not is_hub_id(value))):
        return last_part(value)
    return value


def last_part(path: str) -> str:
    return os.path.basename(os.path.abspath(path)) or path
