"""A model and windows -> two fingerprints of their logits: of every bit, and of what they were computed from.

The first names a file of logits; it covers all that may change a bit. The second is the same wherever and in whichever batches
the logits are computed: other versions, devices and batch sizes change bits by rounding alone.
"""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from transformers.dynamic_module_utils import get_relative_import_files

from qa_accel import files
from qa_accel.batching.collate import PackedCollator
from qa_accel.batching.mode import padding_rules
from qa_accel.data.settings import LogitsDtype
from qa_accel.data.windows import Windows
from qa_accel.distributed import strategy
from qa_accel.inference.answer_policy import CONFIG_KEY, THRESHOLD_KEY
from qa_accel.inference.qa_model import QAModel

# Part of every file's name. Increase it when the same input gives another file than before.
CODE_VERSION = 2
NOT_IN_LOGITS = ("_name_or_path", "transformers_version", CONFIG_KEY, THRESHOLD_KEY)
"""Keys of a model's config that change no logit."""
VERSIONED = ("torch", "transformers", "qa_accel", *sys.stdlib_module_names)
"""Packages whose code is known by a version that is in the fingerprint, or that computes no logit."""


@dataclass(frozen=True)
class LogitsFingerprint:
    bits: str
    """Of all that decides about the bits of a file."""
    source: str
    """Of the model's tensors, config and own code, and of the windows."""


def fingerprint(
    accelerator: Accelerator, qa: QAModel, windows: Windows, batch_size: int, dtype: LogitsDtype, max_seq_length: int
) -> LogitsFingerprint:
    source = {"model": _model_content(qa.model), "windows": _windows_content(windows)}
    plan, collate = qa.evaluation_batches(windows, batch_size, max_seq_length)
    packed = isinstance(collate, PackedCollator)
    bits = {
        "code": CODE_VERSION,
        "source": source,
        "model": _model_settings(qa.model),
        "batches": [plan.shape, hashlib.blake2b(plan.tobytes(), digest_size=16).hexdigest()],
        "padding": asdict(padding_rules(qa.inputs, qa.tokenizer)),
        "packed rows": [collate.row_tokens, collate.max_length] if packed else None,
        "max_seq_length": max_seq_length,
        "attention": qa.mode.attention,
        "precision": strategy.precision(accelerator),
        "device": accelerator.device.type,
        "dtype": dtype,
    }
    return LogitsFingerprint(_hash(bits), _hash(source))


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _model_content(model: Any) -> list[Any]:
    """Of a torch model the hash of its tensors, its config and its code; of an exported one its files and runtime."""
    if not isinstance(model, torch.nn.Module):
        return [model.runtime, *(files.sha256(path) for path in model.files)]
    digest = hashlib.blake2b(digest_size=32)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    config: Any = model.config
    # without defaults, of which another version of transformers has others
    content = {key: value for key, value in config.to_diff_dict().items() if key not in NOT_IN_LOGITS}
    return [digest.hexdigest(), content, type(model).__qualname__, own_code(model)]


def _model_settings(model: Any) -> list[Any]:
    """What is to the bit alone: all of the config, and the libraries."""
    if not isinstance(model, torch.nn.Module):
        return []
    config: Any = model.config
    content = {key: value for key, value in config.to_dict().items() if key not in NOT_IN_LOGITS}
    return [content, getattr(config, "_attn_implementation", None), torch.__version__, transformers.__version__]


def own_code(model: torch.nn.Module) -> str | None:
    """Hash of the source files of the model's classes that are not transformers' (`--trust_remote_code`), and of what these import
    from beside them; None if there are none. Neither the model's folder nor that of the copies is part of it."""
    names = {kind.__module__ for module in model.modules() for kind in type(module).__mro__}
    sources = set()
    for name in names:
        place = getattr(sys.modules.get(name), "__file__", None)
        if name.partition(".")[0] not in VERSIONED and place is not None:
            sources |= {place, *(get_relative_import_files(place) if name.startswith("transformers_modules.") else ())}
    if not sources:
        return None
    digest = hashlib.blake2b(digest_size=32)
    for place in sorted(map(Path, sources), key=lambda path: (path.name, str(path))):
        digest.update(f"{place.name} {files.sha256(place)};".encode())
    return digest.hexdigest()


def _windows_content(windows: Windows) -> str:
    """Hash of all that a model sees of the windows, and of what the normalisers depend on."""
    digest = hashlib.blake2b(digest_size=32)
    names = ("input_ids_N", "token_type_ids_N", "begin_W", "context_begin_W", "context_end_W", "null_W")
    for name in names:
        array = getattr(windows, name)
        digest.update(f"{name} {None if array is None else (array.dtype, array.shape)};".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
