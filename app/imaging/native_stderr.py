"""What C libraries print on standard error: noticed, and kept out of the log.

libjpeg and libpng, inside OpenCV's wheel, tell of damage in this way alone. While a decoder
runs, C's ``stderr`` is a stream to a file in memory; the descriptor of standard error and
Python's ``sys.stderr`` stay as they are. glibc documents ``stderr`` as a variable that a
program may set.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")

_IONBF = 2  # stdio.h: no buffer, so that what is printed is in the file at once


class _Diversion:
    """The stream, and how many threads run with it."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        libc.fdopen.restype = ctypes.c_void_p
        libc.setvbuf.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t)
        self._file = os.memfd_create("stderr")
        self._stream = libc.fdopen(self._file, b"w")
        libc.setvbuf(self._stream, None, _IONBF, 0)
        self._stderr = ctypes.c_void_p.in_dll(libc, "stderr")
        self._original = self._stderr.value
        self._threads = 0
        self._lock = threading.Lock()
        self._known_bytes = 0

    def enter(self) -> int:
        """Begin to divert; return how much is known to have been printed before."""
        with self._lock:
            self._threads += 1
            self._stderr.value = self._stream
            return self._known_bytes

    def leave(self) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads:
                self._stderr.value = self._original

    def printed_bytes(self) -> int:
        """How much has been printed since the start of the process."""
        self._known_bytes = printed = os.lseek(self._file, 0, os.SEEK_CUR)
        return printed

    def forget(self) -> None:
        """Free the memory; the position in the file stays."""
        os.ftruncate(self._file, 0)


_diversion = _Diversion()


def run_quietly(decoder: Callable[[], _Result]) -> tuple[_Result, bool]:
    """Run a decoder, and notice whether anything was printed meanwhile.

    Returns:
        What it returns, and whether a C library printed anything: for this decoder, or for
        one that another thread runs at the same time.
    """
    # What is known may be less than what has been printed; the difference counts as printed here.
    start = _diversion.enter()
    try:
        result = decoder()
        has_printed = _diversion.printed_bytes() != start
    finally:
        _diversion.leave()
    if has_printed:
        _diversion.forget()
    return result, has_printed
