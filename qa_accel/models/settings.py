"""The settings of a model: where it comes from, which of its layers are there, which of its weights are trained."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from qa_accel.ranges import NATURAL, check_ranges


@dataclass(frozen=True)
class ModelConfig:
    model_name_or_path: str
    """Hub name or folder of the encoder, fine-tuned or not."""
    tokenizer_name: str | None = None
    """Hub name or folder of the tokenizer; the model's own if not given."""
    model_revision: str = "main"
    """Branch, tag or commit of the hub model."""
    trust_remote_code: bool = False
    """Run the model's own code from the hub."""
    dtype: Literal["float32", "auto", "bfloat16", "float16"] = "float32"
    """Type of the weights in memory, whatever their file holds; `auto`: the file's. Training in half precision loses small
    updates; autocast (accelerate's mixed precision) does not need it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


@dataclass(frozen=True)
class LayerCutConfig:
    keep_layers: tuple[int, ...] | None = None
    """Train only these layers of the model, counted from 0, in this order: `0 2 4` makes three layers of six."""

    def __post_init__(self):
        kept = self.keep_layers
        if kept is None:
            return
        shown = " ".join(map(str, kept))
        if not kept:
            raise ValueError("--keep_layers: give the numbers of the layers, or leave it out to keep all")
        if min(kept) < 0:
            raise ValueError(f"--keep_layers {shown}: layers are counted from 0; {min(kept)} is none")
        if len(set(kept)) < len(kept):
            raise ValueError(f"--keep_layers {shown}: a layer is named twice; name each once")


@dataclass(frozen=True)
class AdapterConfig:
    freeze_layers: int | None = None
    """Keep the embeddings and the first so many layers as they are; 0: the embeddings only."""
    lora_r: int = 0
    """Rank of the low-rank adapter that is trained, with the head, in place of the model's weights; 0: no adapter."""
    lora_alpha: float = 16.0
    """The adapter's product is scaled by lora_alpha / lora_r."""
    lora_dropout: float = 0.0
    """Dropout before the adapter."""
    lora_target_modules: tuple[str, ...] = ()
    """Names, or ends of names, of the linear layers that get an adapter; none given: all but the head's."""
    merge_lora: bool = False
    """End with plain weights, the adapter added to them, which load without peft; else with the adapter alone."""

    def __post_init__(self):
        check_ranges(self, freeze_layers=NATURAL, lora_r=NATURAL, lora_alpha="(0, inf)", lora_dropout="[0, 1)")
        if self.freeze_layers is not None and self.lora_r:
            raise ValueError(
                "--freeze_layers is for training without an adapter: --lora_r freezes all layers by itself"
            )
        if not self.lora_r and (self.merge_lora or self.lora_target_modules):
            raise ValueError("--merge_lora and --lora_target_modules mean nothing without --lora_r")
        if self.lora_r and importlib.util.find_spec("peft") is None:
            raise ValueError("--lora_r needs the package peft: pip install 'qa-accel[lora]'")
