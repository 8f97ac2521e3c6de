"""How a worker's cores are shared between the preparing of images and inferences.

A burst of a hundred requests would decode a hundred images at once. Whoever holds Python's
lock then waits for a core among all of them, and everybody else waits for the lock: calls that
were to be refused at once were refused after 0.7 s.
"""

import threading
import time
from collections import deque

from app.errors import ModelUnavailable

IMAGES_AHEAD = 16
"""So many images for each core are computed or wait for that before no more are prepared: two
batches of the largest size that is tried on a CPU. What waits before takes less memory."""

LATE_DETAIL = "waited past the deadline"


class Cores:
    """Lets images be prepared on the cores that inferences leave, and on one more.

    That one keeps the cores busy between two inferences. An inference never waits here, and
    one image can always be prepared, unless too many wait for the model.

    Args:
        number: how many cores the worker may keep busy.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._inferring = 0
        self._preparing = 0
        self._waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    def prepare(self, deadline: float) -> "_Turn":
        """Hold a core for the block in which an image is prepared; who waits longest is next.

        Args:
            deadline: time.monotonic() until which it may wait.

        Raises:
            ModelUnavailable: the deadline passed; raised where the block would begin.
        """
        return _Turn(self, deadline)

    def begin_inference(self) -> None:
        """Count an image that is computed, or waits for that."""
        with self._lock:
            self._inferring += 1

    def end_inference(self) -> None:
        """Count it no more."""
        with self._lock:
            self._inferring -= 1
            self._grant()

    def waiting(self) -> int:
        """Count the images that wait to be prepared."""
        return len(self._waiting)

    def take(self, deadline: float) -> float:
        """Wait for a turn, which ``give_back`` ends, and say how many milliseconds; see prepare."""
        with self._lock:
            if not self._waiting and self._has_room():
                self._preparing += 1
                return 0.0
            granted = threading.Lock()
            granted.acquire()
            self._waiting.append(granted)
        started = time.monotonic()
        if not granted.acquire(timeout=max(0.0, deadline - started)):
            self._give_up(granted)
        return (time.monotonic() - started) * 1000

    def give_back(self) -> None:
        """End a turn."""
        with self._lock:
            self._preparing -= 1
            self._grant()

    def _has_room(self) -> bool:
        if self._inferring + self._preparing >= self._number * IMAGES_AHEAD:
            return False
        return self._preparing < max(1, self._number + 1 - self._inferring)

    def _grant(self) -> None:
        while self._waiting and self._has_room():
            self._preparing += 1
            self._waiting.popleft().release()

    def _give_up(self, granted: threading.Lock) -> None:
        """Raise, unless the turn came in the last moment."""
        with self._lock:
            if granted in self._waiting:
                self._waiting.remove(granted)
                raise ModelUnavailable(LATE_DETAIL)


class _Turn:
    """One image's turn; ``waited_ms`` says how long it took to come."""

    def __init__(self, cores: Cores, deadline: float) -> None:
        self._cores = cores
        self._deadline = deadline
        self.waited_ms = 0.0

    def __enter__(self) -> "_Turn":
        self.waited_ms = self._cores.take(self._deadline)
        return self

    def __exit__(self, *_failure: object) -> None:
        self._cores.give_back()
