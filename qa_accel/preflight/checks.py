"""What the ranks see of their hosts -> what would go wrong in training, on which host, and what to try.

`compare_hosts` compares the ranks and needs no process group; `all_reduce` and `disk_of` measure.
"""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator, init_empty_weights
from accelerate.utils import gather_object
from transformers import AutoModelForQuestionAnswering

from qa_accel.models import layer_cut, loading
from qa_accel.preflight.probe import HostProbe
from qa_accel.training.settings import TrainConfig

BUSY_GPU = 2 << 30
"""Bytes in use on a GPU that others must be using: a process's own context and NCCL take less."""
BYTES_PER_PARAMETER = 12
"""Of a checkpoint: the weight and AdamW's two moments, in fp32."""
CHECKPOINTS = 3
"""Two are kept as a rule, and the next one is written before the oldest goes."""


@dataclass(frozen=True)
class Network:
    """One all-reduce over all ranks."""

    right: bool
    bytes_per_second: float
    """Over the slowest link, were it a ring: 2 (n - 1) / n times the bytes of the tensor, in the measured time."""


@dataclass(frozen=True)
class Disk:
    free: int
    """Bytes free where output_dir is."""
    needed: int
    """Bytes of three checkpoints."""


@dataclass(frozen=True)
class Finding:
    hosts: tuple[str, ...]
    what: str
    remedy: str
    fatal: bool = True
    """False: training would work, but worse."""


def all_reduce(accelerator: Accelerator) -> Network:
    """A sum over all ranks that must be right in every element, and how fast it was. All ranks must call."""
    ranks = accelerator.num_processes
    if ranks == 1:
        return Network(True, float("inf"))
    numbers = (16 if accelerator.device.type == "cuda" else 2) << 20
    best, right = float("inf"), True
    for _ in range(4):  # the first one also opens connections
        tensor = torch.full((numbers,), accelerator.process_index + 1.0, device=accelerator.device)
        accelerator.wait_for_everyone()
        begun = time.perf_counter()
        torch.distributed.all_reduce(tensor)
        right = bool((tensor == ranks * (ranks + 1) / 2).all()) and right  # waits for the device too
        best = min(best, time.perf_counter() - begun)
    answers = gather_object([(right, best)])
    slowest = max(seconds for _, seconds in answers)
    return Network(all(right for right, _ in answers), 2 * (ranks - 1) / ranks * 4 * numbers / slowest)


def disk_of(settings: TrainConfig) -> Disk | None:
    """Room that three checkpoints need and have; None where the model or the folder is not there to ask."""
    kept = settings.layers.keep_layers
    try:
        model_config = loading.load_model_config(settings.model, settings.windows.max_seq_length)
        if kept is not None:
            model_config = layer_cut.cut_config(model_config, kept, settings.model.model_name_or_path)
        free = shutil.disk_usage(settings.checkpoint.output_dir).free
    except (ValueError, OSError):
        return None
    with init_empty_weights():
        hollow = AutoModelForQuestionAnswering.from_config(
            model_config, trust_remote_code=settings.model.trust_remote_code
        )
    parameters = sum(parameter.numel() for parameter in hollow.parameters())
    return Disk(free, CHECKPOINTS * BYTES_PER_PARAMETER * parameters)


def compare_hosts(probes: Sequence[HostProbe], network: Network, disk: Disk | None, output_dir: str) -> list[Finding]:
    """Everything that is wrong, the worst and most general first. A value of few hosts is theirs to explain."""
    findings = []
    hosts = list(dict.fromkeys(probe.host for probe in probes))
    ranks_on = Counter(probe.host for probe in probes)
    first = probes[0]
    if first.slurm_nodes is not None and len(hosts) != first.slurm_nodes:
        what = f"Slurm gave {first.slurm_nodes} nodes, the ranks are on {len(hosts)}"
        findings.append(
            Finding(tuple(hosts), what, "start one launcher per node (slurm/node.sh does), nodes times processes")
        )
    if len(set(ranks_on.values())) > 1:
        what = f"ranks per host differ: {', '.join(f'{count} on {host}' for host, count in ranks_on.items())}"
        findings.append(Finding(tuple(hosts), what, "--num_processes must be a multiple of the number of nodes"))
    for host in hosts:
        here = [probe for probe in probes if probe.host == host]
        findings += _gpu_findings(host, here)
        if not all(probe.sees_output for probe in here):
            what = f"does not see what rank 0 wrote in {output_dir}" + ("" if here[0].rank else ", nor can write there")
            remedy = "take an --output_dir on a file system that every node mounts, in the same place"
            findings.append(Finding((host,), what, remedy))
        if not all(probe.cache_writable for probe in here):
            findings.append(
                Finding((host,), "cannot write the cache", "set --cache_dir or HF_HOME to a writable folder")
            )
        elif not all(probe.sees_cache for probe in here):
            what = "has a separate cache, so it will tokenize the data again"
            findings.append(Finding((host,), what, "set --cache_dir or HF_HOME to a shared folder", fatal=False))
    for name, remedy in (
        ("code", "update the checkout there, or mount the same one on all nodes"),
        ("versions", "install the same environment there (constraints.txt), or share one"),
        ("data", "share the data files, or copy the same ones to each node"),
        ("model", "share the model's folder or hub cache (HF_HOME), or download it on that node"),
    ):
        findings += _odd_ones(probes, name, remedy)
    for name in ("data", "model"):
        value = getattr(probes[0], name)
        if value.startswith("!") and not any(name in finding.what for finding in findings):
            findings.append(Finding(tuple(hosts), f"{name}: {value[1:]}", "see the message"))
    if not network.right:
        what = "an all-reduce gave a wrong sum"
        findings.append(
            Finding(tuple(hosts), what, "a broken driver or network: try fewer nodes, then NCCL_P2P_DISABLE=1")
        )
    if disk is not None and disk.free < disk.needed:
        what = f"{size_text(disk.free)} free for {output_dir}, three checkpoints take {size_text(disk.needed)}"
        findings.append(
            Finding((first.host,), what, "make room, or lower --save_total_limit to 1 and clean up old runs")
        )
    return findings


def _gpu_findings(host: str, here: Sequence[HostProbe]) -> list[Finding]:
    findings = []
    one = here[0]
    if one.slurm_gpus is not None and one.slurm_gpus != one.gpus:
        what = f"Slurm gave {one.slurm_gpus} GPUs, torch sees {one.gpus}"
        findings.append(
            Finding((host,), what, "nvidia-smi in the same job; a torch built for CUDA; CUDA_VISIBLE_DEVICES unset")
        )
    if one.gpus:
        used = {probe.device for probe in here}
        shared = len(used) < len(here)
        if shared:
            what = f"{len(here)} ranks share {len(used)} GPU{'s' if len(used) > 1 else ''}"
            findings.append(Finding((host,), what, "PROCESSES_PER_NODE must not exceed the node's GPUs"))
        busy = [f"{probe.device} ({size_text(probe.bytes_used)})" for probe in here if probe.bytes_used > BUSY_GPU]
        if busy and not shared:
            remedy = (
                "find the process with nvidia-smi; ask for whole nodes (--exclusive), or leave the node out (--exclude)"
            )
            findings.append(Finding((host,), f"in use by another process: {', '.join(busy)}", remedy))
    return findings


def _odd_ones(probes: Sequence[HostProbe], name: str, remedy: str) -> list[Finding]:
    """A finding per host whose value is not that of most hosts; in a tie, rank 0's value is the right one."""
    value_of = {probe.host: getattr(probe, name) for probe in reversed(probes)}
    counts = Counter(value_of.values())
    usual = max(counts, key=lambda value: (counts[value], value == getattr(probes[0], name)))
    odd = {host: value for host, value in value_of.items() if value != usual}
    return [
        Finding((host,), f"{name} here: {value.removeprefix('!')}; elsewhere: {usual.removeprefix('!')}", remedy)
        for host, value in sorted(odd.items())
    ]


def size_text(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
