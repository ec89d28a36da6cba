"""A run's settings and windows -> what makes it this run and not another one."""

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from qa_accel import config
from qa_accel.data import splits as prepare
from qa_accel.models.adapters import TuningConfig
from qa_accel.training.optim import OptimConfig

if TYPE_CHECKING:
    from qa_accel.training.trainer import TrainConfig


def of_run(settings: "TrainConfig", splits: dict[str, prepare.Split], *, packed: bool) -> dict[str, Any]:
    """All that decides what a step computes, the number of ranks aside: a resume under another identity is another run."""
    train_windows = splits["train"].windows
    shape = hashlib.sha256()
    for array in (train_windows.begin_W, train_windows.start_W, train_windows.end_W):
        shape.update(np.ascontiguousarray(array).tobytes())
    chosen = ("model_name_or_path", "seed", "per_device_train_batch_size", "gradient_accumulation_steps")
    chosen += ("num_train_epochs", "max_train_steps", "dtype", *config.settings_of(OptimConfig))
    chosen += tuple(name for name in config.settings_of(TuningConfig) if name != "merge_lora")
    flat = config.as_dict(settings)
    return {name: flat[name] for name in chosen} | {
        "batches": "packed" if packed else "padded",
        "training questions": splits["train"].questions._fingerprint,
        "training windows": shape.hexdigest()[:16],
    }
