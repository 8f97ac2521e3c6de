"""Request numbers that are unique over workers, restarts and clock steps.

A worker takes a block of 2^20 numbers from a counter file, which all workers share under a
lock, and hands them out from memory. The block number is the Unix time in seconds, or the
last block plus one if that is greater: the file makes it unique, and if the file is lost, the
clock does. Until the year 2242 it stays below 2^53, which JavaScript reads exactly.
"""

import logging
import os
import threading
import time
from pathlib import Path

from app.system.files import file_lock

BLOCK_BITS = 20
MAX_BLOCK = 1 << (53 - BLOCK_BITS)
COUNTER_FILE = "log_id_block"
LOCK_TIMEOUT_S = 1

_log = logging.getLogger(__name__)


class LogIds:
    """Hands out log_ids; thread-safe, but not valid across a fork."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lock = threading.Lock()
        self._next = 0
        self._end = 0
        self._last_block = 0

    def take(self) -> int:
        """Return a positive integer that no other call, in any worker, returns."""
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
            # A full or lost disk must not stop the service; continue with the clock.
            _log.error("log_id counter in %s cannot be written: %s", self._state_dir, exc)
            self._last_block = max(self._last_block + 1, int(time.time()))
        return self._last_block


def advance_block(state_dir: Path, after: int = 0) -> int:
    """Take the next block number, above ``after``, from the counter file in the state folder.

    Raises:
        OSError: the file cannot be opened, locked or written.
    """
    path = state_dir / COUNTER_FILE
    with file_lock(path, timeout_s=LOCK_TIMEOUT_S), path.open("r+b", buffering=0) as counter:
        text = counter.read(32).strip()
        last = int(text) if text.isdigit() else 0
        if last >= MAX_BLOCK:
            last = 0  # a damaged file; the clock is still right
        block = max(last + 1, after + 1, int(time.time()))
        # Not an atomic write: overwriting in place, at a fixed width, works on a full disk too.
        os.pwrite(counter.fileno(), b"%020d\n" % block, 0)
        os.fsync(counter.fileno())
        return block
