"""Distribution of training over processes (DDP, FSDP2, DeepSpeed's ZeRO): what each strategy needs before and after
`accelerator.prepare`, and the same plain weights from each.

The launch decides (accelerate_configs/); nothing here is a setting. What accelerate leaves to the user of a strategy is
filled in from the run's settings. A launch config that would silently train something else is rejected.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.other import has_compiled_regions, is_compiled_module
from torch.nn.parallel import DistributedDataParallel

from qa_accel.models import architectures

logger = logging.getLogger(__name__)

LAUNCHED = {"deepspeed": "ACCELERATE_USE_DEEPSPEED", "fsdp": "ACCELERATE_USE_FSDP"}
"""The variables by which `accelerate launch` names a strategy that splits the training state."""


def launched(name: str) -> bool:
    return os.environ.get(LAUNCHED[name], "false").lower() == "true"


def ignore_launched_strategy() -> None:
    """Make every process hold the whole model, whatever the launch says: prediction has no state to split."""
    for variable in LAUNCHED.values():
        os.environ.pop(variable, None)


def check_launch() -> None:
    """Call before an Accelerator is created. Raises ValueError if FSDP is launched so that it would train something else."""
    if not launched("fsdp"):
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ValueError(
            "the launch's config requests the old FSDP: set `fsdp_version: 2` (accelerate_configs/fsdp2.yaml)"
        )
    if os.environ.get("FSDP_ACTIVATION_CHECKPOINTING", "false").lower() == "true":
        raise ValueError(
            "fsdp_activation_checkpointing in the launch's config recomputes with other dropout masks than the "
            "forward pass (accelerate does not keep the random state): remove it and pass --gradient_checkpointing"
        )
    if not torch.accelerator.is_available() and os.environ.get("FSDP_OFFLOAD_PARAMS", "false").lower() == "true":
        raise ValueError("fsdp_offload_params moves weights from a GPU to its host: remove it for a run on CPUs")
    # accelerate's launcher turns this on: only rank 0 reads the weights. On the other ranks the tensors of a new head then
    # have no separate memory, and accelerate, which identifies parameters by their address, trains only one of them there
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"


def options_without_device() -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the Accelerator and of its process group that make CPU processes one group, under any strategy."""
    os.environ.setdefault(
        "DS_ACCELERATOR", "cpu"
    )  # accelerate imports DeepSpeed if it is installed, which otherwise warns
    if not launched("deepspeed"):
        return {"cpu": True}, {}  # without it, each CPU process is a group of its own
    os.environ.pop("ACCELERATE_USE_CPU", None)  # would silently make accelerate run plain DDP instead
    import deepspeed

    # a faster all-reduce for CPUs, built by a C++ compiler at every first start (half a minute); gloo does not need it
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # type: ignore[attr-defined]
    return {"cpu": False}, {"backend": "gloo"}


def set_up(accelerator: Accelerator, gradient_accumulation_steps: int) -> None:
    """Applies the strategy that the launch requests. Raises ValueError if its config cannot be honoured."""
    if launched("fsdp"):
        _set_up_fsdp(accelerator)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        _set_up_deepspeed(accelerator, gradient_accumulation_steps)


def _set_up_fsdp(accelerator: Accelerator) -> None:
    state = accelerator.state
    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        # accelerate offers FSDP on devices only and would run DDP instead; torch's FSDP2 supports CPUs too
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
        state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
    if accelerator.distributed_type != DistributedType.FSDP:
        return  # one process without a launcher
    plugin: Any = state.fsdp_plugin
    if accelerator.mixed_precision == "bf16":
        from torch.distributed.fsdp import MixedPrecisionPolicy

        # accelerate's own policy would also sum gradients in bf16, which loses the small ones of many ranks
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def _set_up_deepspeed(accelerator: Accelerator, gradient_accumulation_steps: int) -> None:
    # DeepSpeed still calls two collectives by their old names, in every step
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    settings = _deepspeed_settings(accelerator)
    for section, flags in (("optimizer", "--learning_rate, --weight_decay"), ("scheduler", "--lr_scheduler_type")):
        if section in settings:
            raise ValueError(
                f"the DeepSpeed config has a section {section!r}, which conflicts with the run's own settings ({flags}): remove "
                f"the section {section!r} from it"
            )
    _put(settings, "gradient_accumulation_steps", gradient_accumulation_steps, also_default=1)
    accelerator.gradient_accumulation_steps = gradient_accumulation_steps  # otherwise the launch's value would win
    zero = settings["zero_optimization"]
    # DeepSpeed allocates two gradient buffers of this many elements; its default of 5e8 would be 4 GB
    zero.setdefault("reduce_bucket_size", 25_000_000)
    if zero["stage"] == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = (
            True  # despite its name for any precision: gathers the final model
        )
    if accelerator.device.type == "cpu":
        settings["zero_force_ds_cpu_optimizer"] = False  # DeepSpeed's own AdamW for CPUs needs a C++ compiler
    if settings.get("bf16", {}).get("enabled") is True and "ACCELERATE_DEEPSPEED_CONFIG_FILE" not in os.environ:
        # as under DDP: weights in fp32, products in bf16. DeepSpeed's own bf16 keeps the model in bf16, so that no
        # fp32 weights can be saved. No module's gradients are summed in bf16 either.
        settings["bf16"] = {"enabled": False}
        settings["torch_autocast"] = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    if zero["stage"] == 3:
        # transformers splits the weights while it loads them, according to the settings that this call registers
        accelerator.deepspeed_plugin.set_deepspeed_weakref()  # type: ignore[union-attr]


def _deepspeed_settings(accelerator: Accelerator) -> dict[str, Any]:
    """DeepSpeed's config, as passed to DeepSpeed; changes take effect until `prepare`."""
    return accelerator.deepspeed_plugin.deepspeed_config  # type: ignore[union-attr]


def configure_for_model(
    accelerator: Accelerator, qa_model: torch.nn.Module, *, batch_size: int, max_grad_norm: float
) -> None:
    """Give the strategy what it needs to know of model and run; call right before `accelerator.prepare`."""
    if accelerator.distributed_type == DistributedType.FSDP:
        plugin: Any = accelerator.state.fsdp_plugin
        if not plugin.transformer_cls_names_to_wrap:
            plugin.transformer_cls_names_to_wrap = layer_classes(qa_model)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        settings = _deepspeed_settings(accelerator)
        global_batch_size = batch_size * accelerator.gradient_accumulation_steps * accelerator.num_processes
        _put(settings, "train_micro_batch_size_per_gpu", batch_size)
        _put(settings, "train_batch_size", global_batch_size)
        _put(settings, "gradient_clipping", max_grad_norm)  # DeepSpeed clips gradients; 0 turns it off


def _put(settings: dict[str, Any], name: str, value: float, also_default: float | None = None) -> None:
    """Set a number of DeepSpeed's config to the run's, with a warning if it was another one."""
    found = settings.get(name, "auto")
    if found not in ("auto", value, also_default):
        logger.warning(f"{name} {found} in the DeepSpeed config is not used: the run's settings say {value}")
    settings[name] = value


def layer_classes(qa_model: torch.nn.Module) -> list[str]:
    """Class names of the model's layers, without single modules (a norm, a linear layer) in a list.

    transformers' own lists (`_no_split_modules`) are empty for some encoders, and include the embeddings for others.
    """
    layers = architectures.layers(qa_model).values()
    return sorted({type(layer).__name__ for layer in layers if any(layer.children())})


def precision(accelerator: Accelerator) -> str:
    """`no` (fp32), `bf16` or `fp16`: the precision of the products."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        autocast = _deepspeed_settings(accelerator).get("torch_autocast", {})
        if autocast.get("enabled"):
            return "fp16" if str(autocast.get("dtype")).removeprefix("torch.") == "float16" else "bf16"
    return accelerator.mixed_precision


class Placement(TypedDict):
    """What decides about batches and attention, for `load_task` and `choose`."""

    device: str
    """Its type, as torch names it."""
    precision: str
    """`no` (fp32), `bf16` or `fp16`."""


def placement(accelerator: Accelerator) -> Placement:
    """Where the launch computes, and in which precision."""
    return {"device": accelerator.device.type, "precision": precision(accelerator)}


def splits_training(accelerator: Accelerator) -> bool:
    """Whether weights, gradients or the optimizer's state are split over the ranks."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


@contextmanager
def loading_whole(accelerator: Accelerator) -> Iterator[None]:
    """Models that are loaded in this block are whole on each rank, under ZeRO-3 too: those that are not trained."""
    if zero_stage(accelerator) != 3:
        yield
        return
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # otherwise transformers splits the weights while it loads them
    try:
        yield
    finally:
        accelerator.deepspeed_plugin.set_deepspeed_weakref()  # type: ignore[union-attr]


def zero_stage(accelerator: Accelerator) -> int | None:
    """1, 2 or 3 under DeepSpeed."""
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return None
    return _deepspeed_settings(accelerator)["zero_optimization"]["stage"]


def name(accelerator: Accelerator) -> str:
    """Display name; empty for a single process."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        offload = _deepspeed_settings(accelerator)["zero_optimization"].get("offload_optimizer", {})
        offloads = (offload or {}).get("device", "none") != "none"
        return f"DeepSpeed ZeRO-{zero_stage(accelerator)}{' with offload' if offloads else ''}"
    if accelerator.distributed_type == DistributedType.FSDP:
        return "FSDP2"
    return "" if accelerator.distributed_type == DistributedType.NO else "DDP"


def layout(accelerator: Accelerator) -> str:
    """How a checkpoint's states are stored. Two runs with the same layout can resume from each other's checkpoints."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return f"{name(accelerator)} on {accelerator.num_processes} processes"
    return name(accelerator) if accelerator.distributed_type == DistributedType.FSDP else "whole on each process"


def checkpoint_classes(accelerator: Accelerator) -> list[type]:
    """Classes of objects that the strategy pickles into a checkpoint, in addition to tensors and plain values."""
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return []
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]


def full_norm(norm: torch.Tensor | float | None) -> torch.Tensor | None:
    """A gradient's norm as a plain tensor: FSDP2's is split over the ranks (all of them must call), DeepSpeed's a float."""
    if norm is None:
        return None
    return norm.full_tensor() if hasattr(norm, "full_tensor") else torch.as_tensor(norm)  # type: ignore[union-attr]


def unwrapped(accelerator: Accelerator, prepared_model: Any) -> Any:
    """The model in what accelerator.prepare returned.

    accelerate's own function imports DeepSpeed wherever it is installed, in 0.6 to 2.5 s, which only its engine needs.
    """
    compiled = is_compiled_module(prepared_model) or has_compiled_regions(prepared_model)
    if compiled or accelerator.distributed_type == DistributedType.DEEPSPEED:
        return accelerator.unwrap_model(prepared_model, keep_torch_compile=False)
    return prepared_model.module if isinstance(prepared_model, DistributedDataParallel) else prepared_model


def full_weights(accelerator: Accelerator, prepared_model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All weights on rank 0, an empty dict elsewhere; split weights are gathered one after the other.

    All ranks must call.
    """
    split = accelerator.distributed_type == DistributedType.FSDP or zero_stage(accelerator) == 3
    if not split and not accelerator.is_main_process:
        return {}
    if not splits_training(accelerator):
        return unwrapped(accelerator, prepared_model).state_dict()
    return accelerator.get_state_dict(prepared_model) or {}  # type: ignore[return-value]
