"""Let this process keep the memory that it frees, where glibc would return it to the system.

glibc maps every block above 128 KiB to 32 MiB anew and returns it when it is freed, so that the
system has to clear the pages of every tensor: 8 % of the processor's time of a short run. What is
kept must serve all threads, or each keeps its own: 260 MiB more after reading 90 minutes. These
settings belong to the process, so a library must not change them; the command line may.
Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import os
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # names of mallopt's parameters
LARGEST = 1 << 30  # bytes: larger blocks are still mapped and returned
# Someone who sets these, or another allocator, has chosen.
CHOSEN = (
    "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES",
    "LD_PRELOAD",
)  # fmt: skip


def keep_freed_memory() -> None:
    """Raise glibc's thresholds and share one arena; does nothing with another C library."""
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in CHOSEN):
        return
    library = ctypes.CDLL(None)
    library.mallopt(ARENA_MAX, 1)
    for parameter in (TRIM_THRESHOLD, MMAP_THRESHOLD):
        library.mallopt(parameter, LARGEST)
