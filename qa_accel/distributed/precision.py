"""Hardware support and the requested precision -> the precision of a run on a CPU: bf16 or fp32.

A CPU without hardware for bf16 multiplies in it at 1 to 3 GFLOP/s, in fp32 at 50 to 100.
"""

import os
from pathlib import Path

import torch
from accelerate.utils import parse_flag_from_env

from qa_accel.distributed import strategy

LAUNCHED_PRECISION = "ACCELERATE_MIXED_PRECISION"
"""Set by hand or, always, by `accelerate launch`: `no` (fp32), `bf16`, `fp16`."""
ALLOW_SLOW = "QA_ACCEL_ALLOW_SLOW_BF16"
"""1: allow half precision on a CPU without hardware for it, slow as it is."""
PRETENDED_UNITS = "QA_ACCEL_CPU_BF16"
"""For tests: 0 or 1 replaces what the processor reports."""


def cpu_has_units() -> bool:
    """Whether this CPU multiplies bf16 in hardware: AVX512-BF16 or AMX."""
    if PRETENDED_UNITS in os.environ:
        return os.environ[PRETENDED_UNITS] == "1"
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def on_cpu() -> bool:
    """Whether this process runs on the CPU: there is no device, or the launch says so."""
    return not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")


def bf16_is_fast() -> bool:
    """Whether the device that this process gets, or the CPU, multiplies bf16 in hardware."""
    if on_cpu():
        return cpu_has_units()
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def requested() -> str | None:
    """The precision requested by a flag, the launch's config file or the environment; None: the script decides."""
    named = os.environ.get(LAUNCHED_PRECISION)
    # under FSDP and DeepSpeed precision is part of the strategy: a strategy that names none is fp32
    not_split = not any(map(strategy.launched, strategy.LAUNCHED))
    if named == "no" and not_split and on_cpu() and _launch_names_none():
        return None
    return named


def of_training() -> str | None:
    """`bf16` or `no` if no precision is requested; None if one is: accelerate applies it."""
    if requested() is not None:
        return None
    return "bf16" if bf16_is_fast() else "no"


def check(chosen: str) -> None:
    """Raises ValueError for bf16 on a CPU without hardware for it, unless the environment allows it."""
    if chosen != "bf16" or not on_cpu() or cpu_has_units() or os.environ.get(ALLOW_SLOW) == "1":
        return
    raise ValueError(
        f"bf16 is requested (by --mixed_precision, the launch's config file or {LAUNCHED_PRECISION}), but this CPU has no "
        "hardware for it (AVX512-BF16 or AMX): products would be 10 to 100 times slower than in fp32. Launch with "
        f"--mixed_precision no (if nothing else requests bf16, leave it out), or set {ALLOW_SLOW}=1 to run it anyway"
    )


def check_half_on_cpu(dtype: str) -> None:
    """Raises ValueError for weights in bfloat16 or float16 on a CPU without hardware for them, unless the environment
    allows it."""
    fast = cpu_has_units() if dtype == "bfloat16" else torch.cpu.get_capabilities().get("amx_fp16")
    if fast or os.environ.get(ALLOW_SLOW) == "1":
        return
    raise ValueError(
        f"dtype {dtype}: this CPU has no hardware for it: products would be 10 to 100 times slower than in float32. Take "
        f"dtype='float32', or set {ALLOW_SLOW}=1 to run it anyway"
    )


def _launch_names_none() -> bool:
    """Whether `accelerate launch` started this process, and neither its command line, nor its config file, nor its
    environment names a precision. It then passes on `no`, as it does for `--mixed_precision no`.

    Only Linux shows another process's command line; elsewhere, and if another program is between the launcher and this
    process, False.
    """
    launcher = Path("/proc", str(os.getppid()))
    try:
        words = os.fsdecode((launcher / "cmdline").read_bytes()).split("\0")[:-1]
        environment = os.fsdecode((launcher / "environ").read_bytes()).split("\0")
    except OSError:
        return False
    words = _words_after_launch(words)
    if words is None or f"{LAUNCHED_PRECISION}=no" in environment:
        return False
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    parsed, _ = launch_command_parser().parse_known_args(words)
    if parsed.mixed_precision is not None:
        return False
    config_file = parsed.config_file or default_config_file
    if parsed.config_file is None and (parsed.cpu or not os.path.isfile(config_file)):
        return True  # as accelerate does: with --cpu it does not read the default file
    return load_config_from_file(str(launcher / "cwd" / config_file)).mixed_precision is None


def _words_after_launch(words: list[str]) -> list[str] | None:
    """The arguments of `accelerate launch`, in any of its spellings; None for another command line."""
    for place, word in enumerate(words[1:4], start=1):
        if Path(word).name == "accelerate-launch" or (
            word == "accelerate.commands.launch" and words[place - 1] == "-m"
        ):
            return words[place + 1 :]
        program = Path(word).name == "accelerate" or word == "accelerate.commands.accelerate_cli"
        if program and words[place + 1 : place + 2] == ["launch"]:
            return words[place + 2 :]
    return None
