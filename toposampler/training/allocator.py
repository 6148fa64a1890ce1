"""Freed memory stays with the process: a step of training allocates the same sizes again.

glibc gives blocks of some MiB back to the kernel when they are freed. At the next step the kernel maps and clears each
of their pages again: 16 runs of lines as one program, batch 256, had 10,000 page faults in an iteration of 80 ms, which
takes 60 ms without them. Networks whose activations are of that size are what a CPU trains.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""numbers of `mallopt` (malloc.h): free bytes at the end of the heap that are kept; least size that is mapped alone"""
MOST_KEPT = 2**31 - 1
"""the largest that `mallopt` takes"""
LARGEST_ON_HEAP = 32 * 2**20
"""the largest threshold that glibc takes, on machines of 64 bits"""
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")
"""of the environment, by which a user sets this: then it stays as it is"""


@cache
def keep_freed_memory() -> bool:
    """Have glibc keep what is freed, up to blocks of 32 MiB; whether it does. Other C libraries stay as they are."""
    if any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST_ON_HEAP) and mallopt(TRIM_THRESHOLD, MOST_KEPT))
