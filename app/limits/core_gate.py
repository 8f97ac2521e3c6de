"""How a worker's cores are shared between the preparing of images and inferences.

A burst of a hundred requests would decode a hundred images at once. Whoever holds Python's
lock then waits for a core among all of them, and everybody else waits for the lock: calls that
were to be refused at once were refused after 0.7 s.
"""

import time

from app.limits.fair_semaphore import FairSemaphore
from app.limits.lease import Lease

IMAGES_AHEAD = 16
"""So many images for each core are computed or wait for that before no more are prepared: two
batches of the largest size that is tried on a CPU. What waits before takes less memory."""


UNCONTENDED_S = 0.03
"""An image is alone when so long no two were in the worker. Of two callers that ask again at
once, one is between two requests now and then."""


class CoreGate(FairSemaphore):
    """Lets images be prepared on the cores that inferences leave, and on one more.

    That one keeps the cores busy between two inferences. An inference never waits here, and
    one image can always be prepared, unless too many wait for the model.

    Args:
        number: how many cores the worker may keep busy.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self._inferring = 0
        self._last_contended_at = float("-inf")

    def prepare(self, deadline: float) -> Lease[float]:
        """Hold a core for the block in which an image is prepared; who waits longest is next.

        Args:
            deadline: time.monotonic() until which it may wait.

        Returns:
            What gives the block the milliseconds waited.

        Raises:
            ModelUnavailable: the deadline passed; raised where the block would begin.
        """
        return self._hold(1, deadline)

    def begin_inference(self) -> None:
        """Count an image that is computed, or waits for that."""
        with self._lock:
            self._inferring += 1
            self._note_company()

    def end_inference(self) -> None:
        """Count it no more."""
        with self._lock:
            self._note_company()
            self._inferring -= 1
            self._grant()

    def is_uncontended(self) -> bool:
        """Whether a single image is computed, none prepared, and there is one at a time lately."""
        is_one = self._inferring == 1 and not self._taken and not self._waiting
        return is_one and time.monotonic() - self._last_contended_at >= UNCONTENDED_S

    def _note_company(self) -> None:
        if self._inferring + self._taken > 1:
            self._last_contended_at = time.monotonic()

    def _fits(self, size: int) -> bool:
        if self._inferring + self._taken + size > self._number * IMAGES_AHEAD:
            return False
        return self._taken + size <= max(1, self._number + 1 - self._inferring)
