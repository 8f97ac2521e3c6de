"""Request numbers that are unique over nodes, workers, restarts and clock steps.

A log_id has 53 bits, which JavaScript reads exactly: a block number of 32 bits, the number of
the node of 10 bits, and a counter of 11 bits. A worker takes a block of 2048 numbers from a
counter file, which all workers of a node share under a lock, and hands them out from memory.
The block number is the Unix time in seconds, or the last block plus one if that is greater: the
file makes it unique, and if the file is lost, the clock does. It lasts until the year 2106.
"""

import hashlib
import logging
import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from app.system.files import file_lock

NODE_BITS, COUNTER_BITS = 10, 11
MAX_BLOCK = 1 << (53 - NODE_BITS - COUNTER_BITS)
MAX_NODE = (1 << NODE_BITS) - 1
COUNTER_FILE = "log_id_block"
LOCK_TIMEOUT_S = 1
MACHINE_ID = Path("/etc/machine-id")

_log = logging.getLogger(__name__)


class LogIds:
    """Hands out log_ids; thread-safe, but not valid across a fork.

    Args:
        state_dir: folder of the counter file.
        node: the number of this node, 1 to MAX_NODE; see node_number.
    """

    def __init__(self, state_dir: Path, node: int) -> None:
        self._state_dir, self._node = state_dir, node
        self._lock = threading.Lock()
        self._next = 0
        self._end = 0
        self._last_block = 0

    def take(self) -> int:
        """Return a positive integer that no other call, in any worker of any node, returns."""
        with self._lock:
            if self._next == self._end:
                self._next = self._take_block() << COUNTER_BITS
                self._end = self._next + (1 << COUNTER_BITS)
            log_id = self._next
            self._next += 1
            return log_id

    def _take_block(self) -> int:
        """The block number and the node."""
        node = self._node
        try:
            self._last_block = advance_block(self._state_dir, self._last_block)
        except OSError as exc:
            # A full or lost disk must not stop the service; continue with the clock. The workers
            # no longer know of each other, so each block is that of a node drawn by lot.
            _log.error("log_id counter in %s cannot be written: %s", self._state_dir, exc)
            self._last_block = max(self._last_block + 1, int(time.time()))
            node = 1 + secrets.randbelow(MAX_NODE)
        return (self._last_block << NODE_BITS) | node


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


def node_number(node_id: int, state_dir: Path) -> int:
    """Return the setting ``node_id``, or where it is 0 a number from 1 to MAX_NODE.

    That number is always the same for a machine, its host name and a state folder, and most
    probably another one for any other: of n nodes, two have the same with a probability of
    about n² / 2046.
    """
    if node_id:
        return node_id
    machine = b""
    with suppress(OSError):  # containers may have none, but a host name of their own
        machine = MACHINE_ID.read_bytes().strip()
    text = b"\0".join([machine, os.uname().nodename.encode(), os.fsencode(state_dir.absolute())])
    return 1 + int.from_bytes(hashlib.sha256(text).digest()[:8]) % MAX_NODE


class LogIdOrigin(NamedTuple):
    """Where a log_id comes from.

    Attributes:
        node: the number of the node.
        time_s: seconds since the epoch at which its block was taken, or somewhat later.
    """

    node: int
    time_s: int


def origin_of(log_id: int) -> LogIdOrigin:
    """Tell which node gave a log_id, and when."""
    return LogIdOrigin(log_id >> COUNTER_BITS & MAX_NODE, log_id >> COUNTER_BITS + NODE_BITS)
