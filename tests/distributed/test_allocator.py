"""Page faults of tensors that are made again and again, in processes of their own: the settings hold for a whole process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch, transformers
if sys.argv[1] == "kept":
    from qa_accel.distributed.allocator import keep_memory
    keep_memory()
torch.set_num_threads(1)
def step():
    return [torch.ones(size) for size in (9_000_000, 5_000_000, 2_000_000)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_freed_memory_is_not_mapped_again():
    """64 MB a step are 15,600 pages of 4 kB. Breaks if a parameter of mallopt has another number, or is set too late."""
    faults = {
        name: int(
            subprocess.run([sys.executable, "-c", FAULTS, name], capture_output=True, text=True, check=True).stdout
        )
        for name in ("usual", "kept")
    }
    assert faults["kept"] < 1000 < 50_000 < faults["usual"], faults
