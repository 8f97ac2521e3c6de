"""Limits for the heap of a process with many threads."""

import ctypes
import os
from pathlib import Path

# mallopt(3) of glibc, malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BLOCK_BYTES = 4 * 1024 * 1024
"""An image of 1.4 megapixels in RGB."""

GROWTH_BYTES = 64 * 1024 * 1024
"""Growth of the process after which its heap is trimmed. With ten times more requests than can
be served that is every five seconds, for 5 to 10 ms."""


def bound_heap() -> None:
    """Make all threads of this process and of its children share one malloc arena.

    By default glibc creates several arenas, and the decoded images fragment each of them: a
    worker with the demo model took 550 MB instead of 400. Blocks of the size of most images
    stay in the heap, so that the kernel need not clear new pages for every request. Larger
    ones are returned to the kernel when they are freed, because they left holes of 100 MB, and
    clearing pages is cheap compared with decoding them. Without glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE_BLOCK_BYTES)


class Heap:
    """Returns free pages of the heap to the kernel when the process has grown.

    glibc by itself returns only what is free at the end of the heap. Under load, small
    long-lived blocks end up between large short-lived ones and keep the pages there: after a
    minute of ten times more requests than it can serve, a worker with 170 MB in use held 350.
    """

    def __init__(self) -> None:
        # malloc_trim(3) returns whole pages from anywhere in the heap; only glibc has it.
        self._malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _pad: 0)
        self._lowest_bytes = resident_memory_bytes()

    def trim(self) -> int:
        """Trim the heap if the process grew by GROWTH_BYTES; return its resident memory."""
        resident_bytes = resident_memory_bytes()
        if resident_bytes > self._lowest_bytes + GROWTH_BYTES:
            self._malloc_trim(0)
            self._lowest_bytes = resident_bytes = resident_memory_bytes()
        self._lowest_bytes = min(self._lowest_bytes, resident_bytes)
        return resident_bytes


def resident_memory_bytes(process: Path = Path("/proc/self")) -> int:
    """Return the resident memory of a process (proc(5), statm, second field)."""
    pages = int((process / "statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
