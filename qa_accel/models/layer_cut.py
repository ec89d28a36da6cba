"""A pretrained encoder -> a shallower one: some of its layers, in the order given, under a config that says so.

The cut model is made from the cut config and filled with the weights of the kept layers, so a saved one loads by itself.
What cannot be cut is refused from the config, on a model without storage, before any weight is read.
"""

import copy
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_QUESTION_ANSWERING_MAPPING, PretrainedConfig, PreTrainedModel

from qa_accel.messages import REASON, listed, short
from qa_accel.models import architectures

PER_LAYER = ("layer_types", "attention_window", "no_rope_layers")
"""Settings of config.json that may be a list with one entry per layer."""

OWN_NUMBER = ("layer_idx", "layer_id")
"""Attributes in which layers keep their own number."""

_BY_PATTERN = "its config describes the layers by a pattern of their kinds, not one by one"
NOT_CUT = {
    "albert": "its layers share one set of weights; set num_hidden_layers in config.json to run it fewer times",
    "canine": "its layers are of three kinds, and only the middle ones are counted",
    "funnel": "its layers are grouped in blocks between which tokens are pooled",
    "gpt_neo": _BY_PATTERN,
    "minimax": "its linear attention forgets at a rate that follows from a layer's number and the number of layers",
    "reformer": _BY_PATTERN,
}
"""Model types whose layers cannot be chosen one by one, with the reason."""


def cut_config(model_config: PretrainedConfig, kept: tuple[int, ...], name: str) -> PretrainedConfig:
    """The config of the model `name` with these layers alone. Raises ValueError if they are not there or cannot be cut."""
    count, model_type = getattr(model_config, "num_hidden_layers", None), model_config.model_type
    refused = NOT_CUT.get(model_type)
    if getattr(model_config, "is_encoder_decoder", False):
        refused = "it has an encoder and a decoder, whose layers belong together"
    if type(model_config) not in MODEL_FOR_QUESTION_ANSWERING_MAPPING:
        refused = "its code is its own, and nothing is known of its layers"
    if refused is None and isinstance(count, int):
        if max(kept) >= count:
            raise ValueError(
                f"--keep_layers {_shown(kept)}: {name!r} has {count} layers, numbered 0 to {count - 1}; {max(kept)} is none"
            )
        cut = _with_layers(model_config, kept)
        refused = _obstacle(model_config, cut, kept)
        if refused is None:
            return cut
    raise ValueError(
        f"--keep_layers {_shown(kept)}: {name!r} is of type {model_type!r}, whose layers cannot be chosen like this: "
        f"{refused or 'its config has no number of layers'}. Leave --keep_layers out, or take another model"
    )


def cut(model: PreTrainedModel, kept: tuple[int, ...], name: str) -> PreTrainedModel:
    """A model of these layers alone, with the weights of `model`, which must not be used after it."""
    small: Any = type(model)(cut_config(model.config, kept, name))
    names = _names(model, kept)
    weights = model.state_dict()
    small.load_state_dict({new: weights[old] for new, old in names.items()}, assign=True)
    small.tie_weights()
    return small.train(model.training)


def _with_layers(model_config: PretrainedConfig, kept: tuple[int, ...]) -> PretrainedConfig:
    cut, count = copy.deepcopy(model_config), model_config.num_hidden_layers
    for setting in PER_LAYER:
        values = getattr(cut, setting, None)
        if isinstance(values, (list, tuple)) and len(values) == count:
            setattr(cut, setting, [values[layer] for layer in kept])
    cut.num_hidden_layers = len(kept)  # under the name that this config has for it
    return cut


def _obstacle(whole_config: PretrainedConfig, cut_config: PretrainedConfig, kept: tuple[int, ...]) -> str | None:
    """Why the cut model has no place for the kept layers' weights; None if it has. No weight is read for it."""
    whole, small = (_without_storage(each) for each in (whole_config, cut_config))
    if len(architectures.layers(whole)) != whole_config.num_hidden_layers:
        return "its layers are not modules of their own, one for each that config.json counts"
    weights, places = whole.state_dict(), small.state_dict()
    names = _names(whole, kept)
    differing = sorted(
        places.keys() ^ names.keys()
        | {new for new in places.keys() & names.keys() if places[new].shape != weights[names[new]].shape}
    )
    if differing:
        return f"layers at these places differ in {listed(differing, 3, REASON)}, so one cannot take the other's place"
    return _other_numbers(whole, small, kept)


def _other_numbers(whole: nn.Module, small: nn.Module, kept: tuple[int, ...]) -> str | None:
    """What a layer computes with that is no weight and would be another value at its new place.

    Some layers derive it from their own number: GPT-2 with scale_attn_by_inverse_layer_idx, DiffLlama, BigBird's seed.
    """
    layers, places = architectures.layers(whole), list(architectures.layers(small).values())
    for layer, place in zip((list(layers)[each] for each in kept), places, strict=True):
        at_place = dict(place.named_modules())
        for name, module in layers[layer].named_modules():
            for setting, value in _numbers(module).items():
                other = getattr(at_place[name], setting, None)
                if other != value:
                    where = f"{layer}.{name}".rstrip(".")
                    return (
                        f"a layer computes with values that follow from its place: {setting} of {where} is {short(repr(value))}, "
                        f"and would become {short(repr(other))}"
                    )
    return None


def _numbers(module: nn.Module) -> dict[str, Any]:
    """Plain attributes of a module by name, the layer's own number aside, which only says where a cache has its keys."""
    kinds = (bool, int, float, str, tuple, list)
    found = {name: value for name, value in vars(module).items() if isinstance(value, kinds) and name[0] != "_"}
    return {name: value for name, value in found.items() if name not in OWN_NUMBER}


def _without_storage(model_config: PretrainedConfig) -> PreTrainedModel:
    """A model of shapes alone. From a copy of its config, which some constructors change."""
    made: Any = MODEL_FOR_QUESTION_ANSWERING_MAPPING[type(model_config)]
    with torch.device("meta"):
        return made(copy.deepcopy(model_config))


def _names(whole: nn.Module, kept: tuple[int, ...]) -> dict[str, str]:
    """Name of each tensor of the cut model -> its name in the whole one."""
    layers = list(architectures.layers(whole))
    place = {layers[layer]: layers[position] for position, layer in enumerate(kept)}
    found = {}
    for name in whole.state_dict():
        layer = next((layer for layer in layers if name.startswith(f"{layer}.")), None)
        if layer is None:
            found[name] = name
        elif layer in place:
            found[f"{place[layer]}.{name.removeprefix(f'{layer}.')}"] = name
    return found


def _shown(kept: tuple[int, ...]) -> str:
    return " ".join(map(str, kept))
