"""Freed arrays return their memory to the system at once.

glibc keeps freed blocks of up to 32 MiB for later, in a pool for every thread. A server that sends
to and hears from many sites at once does so in many threads, and its memory would grow with sites
although nothing is held. Blocks above a fixed threshold are mapped one by one and unmapped when
they are freed: mallopt(3), M_MMAP_THRESHOLD.
"""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_THRESHOLD = 1 << 20


def return_freed_memory() -> bool:
    """Fix the threshold at 1 MiB for this process; False where the C library is not glibc."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_M_MMAP_THRESHOLD, _THRESHOLD))
    except (OSError, AttributeError):
        return False
