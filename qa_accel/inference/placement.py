"""Where a model computes, and in which type: what the caller of `Reader` requests, checked against what is there."""

from typing import Any, Literal

import torch

from qa_accel.messages import first_line, shown

Dtype = Literal["float32", "bfloat16", "float16"]
PRECISIONS: dict[Dtype, str] = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
"""Type of the weights -> the precision of the run, as accelerate names it."""


def choose_device(requested: str | int | torch.device | None) -> torch.device:
    """The requested device, or the best there is. A number is that of a CUDA device, -1 the CPU, as in transformers.

    Raises ValueError for a device that is not there.
    """
    if requested is None:
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    if isinstance(requested, bool) or not isinstance(requested, (str, int, torch.device)):
        raise ValueError(f"device is {shown(requested)}; expected a name such as cpu or cuda:0, or a number")
    name: Any = ("cpu" if requested < 0 else f"cuda:{requested}") if isinstance(requested, int) else requested
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {str(name)!r} cannot be used: {first_line(error)}") from error
    if device.type == "meta":
        raise ValueError("device 'meta' cannot be used: it computes nothing")
    return device


def choose_dtype(requested: str | torch.dtype, device: torch.device) -> Dtype:
    """Name of the type of weights and products: float32, bfloat16 or float16.

    Raises ValueError for another type, and for half precision on a CPU that has no hardware for it.
    """
    name: Any = str(requested).removeprefix("torch.")
    if name not in PRECISIONS:
        raise ValueError(f"dtype is {shown(requested)}; expected {', '.join(PRECISIONS)}")
    if name != "float32" and device.type == "cpu":
        from qa_accel.distributed import precision  # a second, which float32 need not wait for

        precision.check_half_on_cpu(name)
    return name
