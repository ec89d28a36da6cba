"""Check hosts and settings of a training run before it starts. slurm/train.sbatch begins with it."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qa_accel.distributed import accelerator as runtime
from qa_accel.preflight.checks import Disk, Finding, Network, all_reduce, compare_hosts, disk_of, size_text
from qa_accel.preflight.probe import HostProbe, probe_host
from qa_accel.terminal import make_console, visible
from qa_accel.training.settings import TrainConfig

Config = TrainConfig

SECONDS_FOR_A_PEER = 60
"""How long ranks wait for one another here; training itself has `--ddp_timeout`."""


def run(settings: TrainConfig) -> int:
    """Probe every host, compare, print findings. All ranks must call. Returns 2 if there is a fatal one."""
    started = time.perf_counter()
    patience = dataclasses.replace(settings.runtime, ddp_timeout=SECONDS_FOR_A_PEER)
    accelerator = runtime.make_accelerator(patience, bfloat16_where_fast=True)
    probes = gather_object([probe_host(settings, accelerator)])
    network = all_reduce(accelerator)
    box: list[Any] = [0]
    if accelerator.is_main_process:
        disk = disk_of(settings)
        findings = compare_hosts(probes, network, disk, settings.checkpoint.output_dir)
        # wider than a log's 80 columns: hosts are compared line by line
        show(make_console(width=160), probes, network, disk, findings, time.perf_counter() - started)
        box[0] = 2 if any(finding.fatal for finding in findings) else 0
    broadcast_object_list(box)
    return box[0]


def show(
    console: Console,
    probes: Sequence[HostProbe],
    network: Network,
    disk: Disk | None,
    findings: Sequence[Finding],
    seconds: float,
) -> None:
    """A line per host, what concerns all of them, then each finding with its remedy."""
    nodes = probes[0].slurm_nodes
    promised = "not under Slurm" if nodes is None else f"Slurm promised {nodes} node{'s' if nodes > 1 else ''}"
    table = Table(title=f"pre-flight: {len(probes)} ranks, {promised}", title_justify="left")
    for name in ("host", "ranks", "device", "code", "versions", "data", "model", "output_dir", "cache"):
        table.add_column(name, overflow="fold")
    for host in dict.fromkeys(probe.host for probe in probes):
        here = [probe for probe in probes if probe.host == host]
        one = here[0]
        device = f"{len(here)} x {one.device.rpartition(' ')[0] or one.device}"
        code = f"{one.code} ({one.commit})" if one.commit else one.code
        output = "seen" if all(probe.sees_output for probe in here) else "NOT SEEN"
        cache = "seen" if all(probe.sees_cache for probe in here) else "its own"
        ranks = f"{one.rank}-{here[-1].rank}" if len(here) > 1 else str(one.rank)
        texts = (host, ranks, device, code, one.versions, one.data, one.model, output, cache)
        table.add_row(*map(visible, texts))
    console.print(table)
    if len(probes) > 1:
        speed = f"{network.bytes_per_second / 1e9:.2f} GB/s"
        console.print(f"all-reduce: {'right' if network.right else 'WRONG'}, {speed}")
    if disk is not None:
        console.print(f"disk: {size_text(disk.free)} free, three checkpoints take {size_text(disk.needed)}")
    for finding in findings:
        kind = ("finding", "bold red") if finding.fatal else ("note", "bold yellow")
        console.print(Text.assemble(kind, visible(f" on {', '.join(finding.hosts)}: {finding.what}")))
        console.print(f"    try: {visible(finding.remedy)}")
    fatal = sum(finding.fatal for finding in findings)
    console.print(f"pre-flight: {fatal or 'no'} finding{'' if fatal == 1 else 's'}, {seconds:.1f} s")
