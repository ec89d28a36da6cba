"""What a run computes with -> environment.json beside its settings: processor, GPUs, processes, versions."""

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

import qa_accel
from qa_accel import files, run_layout

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers")


def write(folder: Path, accelerator: Accelerator, where: str, **facts: Any) -> None:
    """Rank 0's view; `where`: processes, device and precision in words. `facts` are added as they are."""
    files.write_json(folder / run_layout.ENVIRONMENT, {**environment(accelerator, where), **facts})


def environment(accelerator: Accelerator, where: str) -> dict[str, Any]:
    """No names of hosts or users: reports are passed on."""
    on_gpu = accelerator.device.type == "cuda"
    return {
        "runs": where,
        "processes": accelerator.num_processes,
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "gpu_gib": round(torch.cuda.get_device_properties(accelerator.device).total_memory / 2**30, 1)
        if on_gpu
        else None,
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "platform": platform.platform(terse=True),
        "versions": {
            "qa-accel": qa_accel.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def processor() -> str:
    """Name of the CPU as the kernel gives it, else of its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model", "cpu model")))
    return next(filter(None, names), platform.machine())
