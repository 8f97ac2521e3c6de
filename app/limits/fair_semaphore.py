"""Waiting for room, in order and not for ever."""

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from functools import partial

from app.errors import ModelUnavailable
from app.limits.lease import Lease

LATE_DETAIL = "waited past the deadline"


@dataclass(eq=False)
class _Waiter:
    size: int
    granted: threading.Lock = field(default_factory=threading.Lock)


class FairSemaphore(ABC):
    """Lets in who fits beside those who are inside; the others wait in order.

    Nobody small overtakes somebody large for ever.
    """

    late_detail = LATE_DETAIL

    def __init__(self) -> None:
        self._taken = 0
        self._waiting: deque[_Waiter] = deque()
        self._lock = threading.Lock()

    def waiting(self) -> int:
        """Count those who wait."""
        return len(self._waiting)

    @abstractmethod
    def _fits(self, size: int) -> bool:
        """Whether there is room for so much more; called with the lock held."""

    def _hold(self, size: int, deadline: float) -> Lease[float]:
        """Hold so much room for the duration of a block, which is given the milliseconds waited.

        Args:
            size: how much.
            deadline: time.monotonic() until which it may wait.

        Raises:
            ModelUnavailable: the deadline passed; raised where the block would begin.
        """
        return Lease(partial(self._take, size, deadline), partial(self._give_back, size))

    def _take(self, size: int, deadline: float) -> float:
        with self._lock:
            if not self._waiting and self._fits(size):
                self._taken += size
                return 0.0
            turn = _Waiter(size)
            turn.granted.acquire()
            self._waiting.append(turn)
        started = time.monotonic()
        if not turn.granted.acquire(timeout=max(0.0, deadline - started)):
            self._give_up(turn)
        return (time.monotonic() - started) * 1000

    def _give_up(self, turn: _Waiter) -> None:
        """Raise, unless the turn came in the last moment."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                # The one behind may be smaller.
                self._grant()
                raise ModelUnavailable(self.late_detail)

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._taken -= size
            self._grant()

    def _grant(self) -> None:
        """Let in whoever fits, in order; called with the lock held."""
        while self._waiting and self._fits(self._waiting[0].size):
            turn = self._waiting.popleft()
            self._taken += turn.size
            turn.granted.release()
