"""Page faults of tensors that are made again and again, in processes of their own: the settings hold for a whole process."""

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from qa_accel.distributed import allocator

FAULTS = """
import resource, sys
from qa_accel.distributed.allocator import keep_memory, request_huge_pages
if sys.argv[2:]:
    request_huge_pages()
import torch, qa_accel.training.build
if sys.argv[1] == "kept":
    keep_memory()
torch.set_num_threads(1)
def step():
    return [torch.ones(size) for size in (9_000_000, 5_000_000, 2_000_000)]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# the fewest of some rounds: the system may take pages back that were not used for a while
print(min(faults() for _ in range(8)), torch.ones(9_000_000).data_ptr() % 4096)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_freed_memory_is_not_mapped_again():
    """64 MB a step are 15,600 pages of 4 kB. Breaks if a parameter of mallopt has another number, or is set too late."""
    faults = {name: run(name)[0] for name in ("usual", "kept")}
    assert faults["kept"] < 500 < 50_000 < faults["usual"], faults


def test_large_blocks_are_aligned_to_pages_once_they_are_requested():
    """As torch does for huge pages; breaks if the request comes after the first tensor, which some library makes at its import."""
    assert run("usual", "huge")[1] == 0


def run(*arguments: str) -> list[int]:
    """Page faults of five steps, and how far a large tensor is from the begin of a page."""
    # the threshold is fixed: glibc by itself raises it, depending on what was freed before
    env = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}
    ran = subprocess.run(
        [sys.executable, "-c", FAULTS, *arguments], capture_output=True, text=True, check=True, env=env
    )
    return [int(word) for word in ran.stdout.split()]


@pytest.mark.parametrize(
    ("largest", "calls"),
    [
        (1 << 40, [(-3, (1 << 31) - 1), (-1, (1 << 31) - 1)]),
        (32 << 20, [(-3, (1 << 31) - 1), (-3, 32 << 20), (-1, (1 << 31) - 1)]),
        (0, [(-3, (1 << 31) - 1), (-3, 32 << 20)]),
    ],
    ids=["now", "older", "refused"],
)
def test_the_heap_is_not_kept_where_large_blocks_would_be_mapped_again(largest, calls, monkeypatch):
    """glibc of RHEL 8 refuses more than 32 MB; with the other parameter alone each large block would be mapped in every step."""
    made = []

    def mallopt(parameter: int, value: int) -> int:
        made.append((parameter, value))
        return int(parameter != -3 or value <= largest)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    allocator.keep_memory()
    assert made == calls
