"""Keeping the heap of a process with many threads small."""

import ctypes

# mallopt(3) of glibc, malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BLOCK_BYTES = 4 * 1024 * 1024
"""An image of 1.4 megapixels in RGB."""


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
