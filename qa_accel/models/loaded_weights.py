"""A model that was just loaded and transformers' report on it -> a refusal of weights that are not those of this model.

transformers fills what is missing, or has another shape, with random numbers, and says so in a report that our commands
silence. Answers would be random too.
"""

import logging
import re
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from qa_accel.messages import REASON, listed
from qa_accel.models import architectures

logger = logging.getLogger(__name__)

TENSORS = 3  # that a message names


def check(
    model: PreTrainedModel, info: dict[str, Any], name: str, *, trained: bool, given: tuple[str, ...] = ()
) -> None:
    """Raises ValueError for tensors that are missing or of another shape.

    The head may be missing unless the model has to be `trained`; `given`: modules whose weights an adapter brings.
    """
    heads = architectures.head_modules(model)
    others = [tensor for tensor in sorted(info["mismatched_keys"]) if _module(tensor[0]) not in given]
    wrong = [_shapes(*tensor) for tensor in others if trained or _module(tensor[0]) not in heads]
    if wrong:
        raise ValueError(
            f"{name!r}: {_some(wrong)}; config.json and weights are not of the same model: correct config.json, or "
            "download or save the model again"
        )
    if others:
        shapes = _some([_shapes(*tensor) for tensor in others])
        logger.warning("%r: %s; training begins with a new head", name, shapes)
    layers = _layers(model)
    left_out = [tensor for tensor in sorted(info["unexpected_keys"]) if _layer(tensor, model) in layers]
    if left_out:
        raise ValueError(
            f"{name!r}: the file has weights for more layers than config.json: {_some(left_out)}; correct config.json, or "
            "download or save the model again"
        )
    missing = [tensor for tensor in sorted(info["missing_keys"]) if _module(tensor) not in given]
    body = [tensor for tensor in missing if _module(tensor) not in heads and not architectures.is_never_used(tensor)]
    if body:
        raise ValueError(
            f"{name!r} has no weights for {len(body)} tensors of {model.config.model_type}: {_some(body)}; they would be "
            "random: a part of the weights is missing, or they are another model's: download or save the model again"
        )
    if trained and missing:
        raise ValueError(
            f"{name!r} has no weights for {_some(missing)}: its question answering head was never trained, so its "
            "answers would be random; fine-tune it first (scripts/train.py)"
        )


def check_finite(model: nn.Module, name: str) -> None:
    """Raises ValueError if a weight is nan or infinite: every answer would be computed from it."""
    for tensor, weight in model.named_parameters():
        if weight.numel() == 0 or weight.is_meta or not weight.is_floating_point():  # under ZeRO-3 empty
            continue
        if not torch.isfinite(torch.stack(torch.aminmax(weight.detach()))).all():  # one pass, no copy; nan is passed on
            raise ValueError(
                f"{name!r}: the tensor {tensor} holds nan or infinity as {str(weight.dtype).removeprefix('torch.')}; "
                "the run that made it diverged, or the file is damaged: take another checkpoint, or --dtype float32"
            )


def _layer(tensor: str, model: PreTrainedModel) -> str:
    """The tensor's name with `N` for the numbers of layers."""
    return re.sub(r"\.\d+\.", ".N.", tensor.removeprefix(f"{model.base_model_prefix}."))


def _layers(model: PreTrainedModel) -> set[str]:
    return {layer for tensor in model.state_dict() if ".N." in (layer := _layer(tensor, model))}


def _some(tensors: list[str]) -> str:
    return listed(tensors, TENSORS, REASON)


def _module(tensor: str) -> str:
    return tensor.partition(".")[0]


def _shapes(tensor: str, found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    return f"{tensor} has the shape {tuple(found)} in the file, {tuple(expected)} by config.json"
