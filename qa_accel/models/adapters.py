"""Which weights of a model are trained: all, those after the first layers, or a low-rank adapter (LoRA).

Adapters are those of `peft`, put into the model itself, so that nothing else of a run has to know of them. They are saved as
peft saves them, with the head, which is trained whole; or merged into plain weights.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from qa_accel.models import architectures
from qa_accel.models.settings import AdapterConfig

ADAPTER = "default"
"""peft's name of the one adapter."""


def apply(qa_model: PreTrainedModel, config: AdapterConfig) -> str:
    """Freeze, or put an adapter in; returns what is trained, for the console. Raises ValueError for names that are not there.

    The adapter's first weights are random: use the same seed on all ranks.
    """
    if config.freeze_layers is not None:
        _freeze(qa_model, config.freeze_layers)
    if config.lora_r:
        _add_adapter(qa_model, config)
    trained = sum(parameter.numel() for parameter in qa_model.parameters() if parameter.requires_grad)
    return f"{trained:,} of {sum(parameter.numel() for parameter in qa_model.parameters()):,} parameters"


def _freeze(qa_model: PreTrainedModel, layers: int) -> None:
    depths = architectures.depths(qa_model)
    count = max(depths.values()) - 1
    if layers > count:
        raise ValueError(f"--freeze_layers {layers}: {qa_model.config.model_type} has {count} layers here")
    for name, parameter in qa_model.named_parameters():
        if depths[name] <= layers:
            parameter.requires_grad_(False)


def _add_adapter(qa_model: PreTrainedModel, config: AdapterConfig) -> None:
    import peft

    heads = architectures.head_modules(qa_model)
    targets = list(config.lora_target_modules) or [
        name
        for name, module in qa_model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and name.partition(".")[0] not in heads and ".pooler." not in name
    ]
    conv1d = any(isinstance(module, Conv1D) for module in qa_model.modules())
    width = getattr(qa_model.config, "hidden_size", None)
    if isinstance(width, int) and config.lora_r > width:  # it would have more weights than the layers
        raise ValueError(f"--lora_r {config.lora_r} must be at most {width}, the width of the model's layers")
    lora = peft.LoraConfig(
        task_type=peft.TaskType.QUESTION_ANS,
        r=config.lora_r,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        modules_to_save=heads,
        fan_in_fan_out=conv1d,  # GPT-2 keeps its matrices the other way round
    )
    try:
        peft.get_peft_model(qa_model, lora)  # changes the model itself; its wrapper is not needed
    except ValueError as error:
        raise ValueError(f"--lora_target_modules {' '.join(targets[:8])}: {error}") from error
    for name, layer in _adapted(qa_model).items():
        if not isinstance(layer.base_layer, (nn.Linear, Conv1D)):
            raise ValueError(
                f"--lora_target_modules: {name} is not a linear layer but a {type(layer.base_layer).__name__}"
            )


def _adapted(qa_model: nn.Module) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in qa_model.named_modules() if isinstance(module, LoraLayer)}


def has_adapter(qa_model: nn.Module) -> bool:
    return hasattr(qa_model, "peft_config")


def save(qa_model: Any, weights: dict[str, torch.Tensor], folder: Path, *, merge: bool) -> None:
    """Adapter, or merged weights, and the model's config. `weights`: all of the model's, under the names it has now."""
    qa_model.config.architectures = [type(qa_model).__name__]
    qa_model.config.save_pretrained(folder)
    if merge:
        save_torch_state_dict(merged(qa_model, weights), folder)
        return
    import peft
    from safetensors.torch import save_file

    adapter = peft.get_peft_model_state_dict(qa_model, weights, ADAPTER, save_embedding_layers=False)
    # the names that they have in peft's own wrapper
    named = {f"base_model.model.{name}": weight.contiguous() for name, weight in adapter.items()}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    lora = copy.copy(qa_model.peft_config[ADAPTER])
    lora.inference_mode = True
    lora.save_pretrained(folder)


def merged(qa_model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of the model as it was before the adapter, the adapter's product added (LoRA, arXiv:2106.09685, section 4.1).

    Computed from the gathered weights, so that the model in training does not change.
    """
    plain = {
        name.replace(f".modules_to_save.{ADAPTER}.", ".").replace(".base_layer.", "."): weight
        for name, weight in weights.items()
        if ".lora_" not in name and ".original_module." not in name
    }
    for name, layer in _adapted(qa_model).items():
        down, up = (weights[f"{name}.{part}.{ADAPTER}.weight"].float() for part in ("lora_A", "lora_B"))
        product = up @ down * layer.scaling[ADAPTER]
        weight = plain[f"{name}.weight"]
        plain[f"{name}.weight"] = (
            (weight + (product.T if layer.fan_in_fan_out else product)).to(weight.dtype).contiguous()
        )
    return plain
