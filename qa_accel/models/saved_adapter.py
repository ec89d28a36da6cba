"""A folder that holds an adapter of peft -> its base model's name, and the base with the adapter merged into it."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from qa_accel.messages import REASON, listed, short
from qa_accel.models import model_folder
from qa_accel.models.loaded_weights import TENSORS
from qa_accel.models.model_folder import reading

FILE = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class SavedAdapter:
    folder: str
    base: str
    """Folder or hub name of the model that it was trained on."""
    heads: tuple[str, ...]
    """Modules that were trained whole and come with the adapter."""

    def merged_into(self, model: PreTrainedModel) -> Any:
        """The model as it was before training, with the adapter's product added to its weights and the adapter's head."""
        try:
            from peft import PeftModel, get_peft_model_state_dict
            from peft.utils.save_and_load import load_peft_weights
        except ImportError as error:
            raise ValueError(
                f"{self.folder!r} holds an adapter, which needs peft: pip install 'qa-accel[lora]'"
            ) from error
        if not any(Path(self.folder, name).is_file() for name in WEIGHTS):  # peft would look for it on the hub
            raise ValueError(f"adapter {self.folder!r} has no {WEIGHTS[0]}; download or save the adapter again")
        with reading("adapter", self.folder), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # refused below
            found = set(load_peft_weights(self.folder, device="cpu"))
            wrapped: Any = PeftModel.from_pretrained(model, self.folder)
            expected = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
        self._check_names("has no weights for", expected - found)
        self._check_names(
            "has weights for", found - expected - set(wrapped.state_dict()), ", which the model does not have"
        )
        if not hasattr(wrapped, "merge_and_unload"):
            kind = type(wrapped.active_peft_config).__name__.removesuffix("Config")
            raise ValueError(
                f"{self.folder!r} holds an adapter of the type {kind}, which cannot be added to weights; take LoRA"
            )
        with reading("adapter", self.folder):
            merged = wrapped.merge_and_unload()
        return merged.requires_grad_(True)  # peft froze the base; who trains the result trains all of it

    def _check_names(self, problem: str, names: set[str], clause: str = "") -> None:
        """peft passes over such tensors with a warning at most: the answers would be those of another model."""
        if names:
            raise ValueError(
                f"adapter {self.folder!r} {problem} {listed(sorted(names), TENSORS, REASON)}{clause}: adapter_config.json, adapter_model and "
                f"the base model {self.base!r} are not of one run; save the adapter again"
            )


def find(folder: str) -> SavedAdapter | None:
    """None if the folder holds no adapter. Raises ValueError for a damaged config, and if the base model does not exist."""
    if not Path(folder, FILE).is_file():
        return None
    found = model_folder.mapping(folder, FILE)
    base, heads = found.get("base_model_name_or_path"), found.get("modules_to_save") or []
    place = f"adapter {folder!r}: {FILE} has"
    if not isinstance(base, str) or not base:
        raise ValueError(
            f"{place} base_model_name_or_path {short(repr(base))}; write the base model's folder or hub name there"
        )
    if not isinstance(heads, list) or not all(isinstance(name, str) for name in heads):
        raise ValueError(f"{place} modules_to_save {short(repr(heads))}; expected a list of names")
    if found.get("megatron_config"):  # peft would import whatever module the config names
        raise ValueError(
            f"{place} a megatron_config, for which peft imports the module "
            f"{short(repr(found.get('megatron_core')))}; this is not supported: save the adapter as a plain one"
        )
    model_folder.check_name(base, f"{place} a base_model_name_or_path that cannot be used:")
    if Path(base, FILE).exists():
        raise ValueError(f"{place} the base model {base!r}, which is an adapter too; merge it first (--merge_lora)")
    return SavedAdapter(folder, base, tuple(heads))
