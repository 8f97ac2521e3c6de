"""The bound on the memory that images take while they are decoded."""

import threading
import time
from collections import deque
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

    def reserve(self, width: int, height: int, deadline: float) -> "_Reservation":
        """Hold the memory that an image of this size may take, for the duration of the block.

        Args:
            width: in pixels.
            height: in pixels.
            deadline: time.monotonic() until which it may wait.

        Raises:
            ModelUnavailable: the deadline passed; raised where the block would begin.
        """
        size_bytes = min(width * height * BYTES_PER_PIXEL, self._max_bytes)
        return _Reservation(self, size_bytes, deadline)

    def take(self, size_bytes: int, deadline: float) -> None:
        """Wait for so much memory, which ``give_back`` returns; see reserve."""
        with self._lock:
            fits = not self._waiting and self._used_bytes + size_bytes <= self._max_bytes
            if fits:
                self._used_bytes += size_bytes
            else:
                turn = _Turn(size_bytes)
                self._waiting.append(turn)
        if not fits:
            self._wait(turn, deadline)

    def give_back(self, size_bytes: int) -> None:
        """Return memory."""
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


class _Reservation:
    """One image's memory; a generator as context manager takes three times as long."""

    def __init__(self, budget: DecodeBudget, size_bytes: int, deadline: float) -> None:
        self._budget = budget
        self._size_bytes = size_bytes
        self._deadline = deadline

    def __enter__(self) -> None:
        self._budget.take(self._size_bytes, self._deadline)

    def __exit__(self, *_failure: object) -> None:
        self._budget.give_back(self._size_bytes)
