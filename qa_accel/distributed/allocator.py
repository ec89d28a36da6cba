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
TORCH_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch reads it when it makes its first tensor: blocks from 2 MB on are aligned to huge pages, and request them."""


def keep_memory() -> None:
    """To be called before the process makes a tensor. Without effect under another C library."""
    os.environ.setdefault(TORCH_HUGE_PAGES, "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc: macOS, musl, Windows
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST)
    mallopt(M_TRIM_THRESHOLD, LARGEST)
