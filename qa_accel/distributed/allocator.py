"""Memory that a training step frees stays with the process, in huge pages, on a CPU under glibc.

By default glibc returns large blocks to the system when they are freed, so every step's tensors are mapped and zeroed again, page by
page of 4 kB: up to a tenth of a step, more where the system is short of memory.
"""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
LARGEST = (1 << 31) - 1
"""mallopt takes an int: blocks below 2 GB are not mapped alone, and the heap is never trimmed."""
LARGEST_OF_OLDER = 32 << 20
"""What older versions of glibc take as M_MMAP_THRESHOLD at most."""
TORCH_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def request_huge_pages() -> None:
    """To be called before torch makes a tensor, that is, before most libraries are imported. torch then aligns blocks from 2 MB on
    to huge pages, and requests them."""
    os.environ.setdefault(TORCH_HUGE_PAGES, "1")


def keep_memory() -> None:
    """Let the heap keep what is freed. Without effect under another C library."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc: macOS, musl, Windows
        return
    # Either call ends the threshold's own adaptation: the second one alone would map each block from 128 kB on again and again.
    if mallopt(M_MMAP_THRESHOLD, LARGEST) or mallopt(M_MMAP_THRESHOLD, LARGEST_OF_OLDER):
        mallopt(M_TRIM_THRESHOLD, LARGEST)
