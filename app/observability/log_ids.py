"""Numbers for requests: unique over workers, restarts and steps of the clock.

A worker takes a block of 2^20 numbers from a counter file that all workers share under a
lock, and hands them out from memory. The block's number is the Unix time in seconds or one
more than the last block, whichever is greater: the file alone makes it unique, and the clock
alone does so when the file is lost. It stays below 2^53, which JavaScript reads exactly,
until the year 2242.
"""

import fcntl
import logging
import os
import threading
import time
from pathlib import Path

BLOCK_BITS = 20
MAX_BLOCK = 1 << (53 - BLOCK_BITS)
COUNTER_FILE = "log_id_block"

_log = logging.getLogger(__name__)


class LogIds:
    """Hands out log_ids; safe to share between threads, to be made after a fork.

    Args:
        state_dir: folder of the counter file, which must be writable.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lock = threading.Lock()
        self._next = 0
        self._end = 0
        self._last_block = 0

    def take(self) -> int:
        """Return a positive integer that no other call, of any worker, has returned."""
        with self._lock:
            if self._next == self._end:
                self._next = self._take_block() << BLOCK_BITS
                self._end = self._next + (1 << BLOCK_BITS)
            log_id = self._next
            self._next += 1
            return log_id

    def _take_block(self) -> int:
        try:
            self._last_block = advance_block(self._state_dir, self._last_block)
        except OSError as exc:
            # A full or lost disk must not stop the service: go on with the clock alone.
            _log.error("log_id counter in %s cannot be written: %s", self._state_dir, exc)
            self._last_block = max(self._last_block + 1, int(time.time()))
        return self._last_block


def advance_block(state_dir: Path, after: int = 0) -> int:
    """Take the next block number, above ``after``, from the counter file in the state folder.

    Raises:
        OSError: the file cannot be opened, locked or written.
    """
    descriptor = os.open(state_dir / COUNTER_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        text = os.read(descriptor, 32).strip()
        last = int(text) if text.isdigit() else 0
        if last >= MAX_BLOCK:
            last = 0  # a damaged file; the clock is still right
        block = max(last + 1, after + 1, int(time.time()))
        # Overwritten in place and at a fixed width, which works on a full disk too.
        os.pwrite(descriptor, b"%020d\n" % block, 0)
        os.fsync(descriptor)
        return block
    finally:
        os.close(descriptor)
