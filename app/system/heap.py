"""Keeping the heap of a process with many threads small."""

import ctypes
import os
from pathlib import Path

# mallopt(3) of glibc, malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BLOCK_BYTES = 4 * 1024 * 1024
"""An image of 1.4 megapixels in RGB."""

GROWTH_BYTES = 64 * 1024 * 1024
"""By so much a process grows before it looks for free pages in its heap. While everything that
comes is ten times too much that is once in five seconds, for 5 to 10 ms."""


def bound_heap() -> None:
    """Share one heap among all threads of this process and of those it forks.

    By default glibc gives every thread a heap of its own, and images that threads decode in
    turn leave a hole in each: a worker with the demo model took 550 MB instead of 400.
    Blocks of the size of most images stay in the heap, so that the kernel need not clear new
    pages for every request. Larger ones are given back at once: in the heap they left holes
    of 100 MB, and clearing pages is little beside decoding them. Without glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE_BLOCK_BYTES)


class Heap:
    """Gives the free pages of this process's heap back when it has grown.

    glibc gives back what is free at the heap's end alone. Under load small blocks that live long
    come to lie between large ones that do not, and the pages between them stay: after a minute
    of ten times what it could compute, a worker with 170 MB in use held 350 MB.
    """

    def __init__(self) -> None:
        # malloc_trim(3) gives back whole pages from anywhere in the heap; glibc alone has it.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _spare: 0)
        self._lowest_bytes = resident_memory_bytes()

    def give_back(self) -> int:
        """Give back what is free, where the process grew by GROWTH_BYTES since it was smallest.

        Returns:
            The bytes of this process that are in RAM now.
        """
        resident_bytes = resident_memory_bytes()
        if resident_bytes > self._lowest_bytes + GROWTH_BYTES:
            self._trim(0)
            self._lowest_bytes = resident_bytes = resident_memory_bytes()
        self._lowest_bytes = min(self._lowest_bytes, resident_bytes)
        return resident_bytes


def resident_memory_bytes() -> int:
    """Memory of this process that is in RAM (proc(5), statm, second field)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
