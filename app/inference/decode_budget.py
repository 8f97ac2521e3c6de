"""The bound on the memory that images take while they are decoded."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.errors import ModelUnavailable

BYTES_PER_PIXEL = 12
"""Three bytes of RGB, four times: a progressive jpg of 4096 x 4096 px was measured at 190 MB
while it is decoded, and its preprocessing may copy the decoded image once."""


@dataclass(eq=False)
class _Turn:
    size_bytes: int
    granted: threading.Event = field(default_factory=threading.Event)


class DecodeBudget:
    """Lets images be decoded as long as all of them together fit; the others wait in order.

    Args:
        max_bytes: for all images together; one that alone takes more has to be alone.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._waiting: deque[_Turn] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def reserve(self, width: int, height: int, deadline: float) -> Iterator[None]:
        """Hold the memory that an image of this size may take, for the duration of the block.

        Args:
            width: in pixels.
            height: in pixels.
            deadline: time.monotonic() until which it may wait.

        Raises:
            ModelUnavailable: the deadline passed.
        """
        size_bytes = min(width * height * BYTES_PER_PIXEL, self._max_bytes)
        with self._lock:
            fits = not self._waiting and self._used_bytes + size_bytes <= self._max_bytes
            if fits:
                self._used_bytes += size_bytes
            else:
                turn = _Turn(size_bytes)
                self._waiting.append(turn)
        if not fits:
            self._wait(turn, deadline)
        try:
            yield
        finally:
            with self._lock:
                self._used_bytes -= size_bytes
                self._grant()

    def _wait(self, turn: _Turn, deadline: float) -> None:
        turn.granted.wait(max(0.0, deadline - time.monotonic()))
        with self._lock:
            if not turn.granted.is_set():
                self._waiting.remove(turn)
                # The one behind may be smaller.
                self._grant()
                raise ModelUnavailable("waited for memory to decode past the deadline")

    def used_bytes(self) -> int:
        """Count the bytes that are reserved."""
        return self._used_bytes

    def _grant(self) -> None:
        """Let in whoever fits, in order: nobody small overtakes somebody large for ever."""
        while self._waiting and self._used_bytes + self._waiting[0].size_bytes <= self._max_bytes:
            turn = self._waiting.popleft()
            self._used_bytes += turn.size_bytes
            turn.granted.set()
