"""How a worker's cores are shared between preparing images and inference.

Without it a burst decodes an image in every native thread at once: the thread that holds the GIL
waits for a core among all of them, and the event loop waits for the GIL.
"""

import time
from functools import partial

from app.limits.fair_semaphore import FairSemaphore
from app.limits.lease import Lease

IMAGES_AHEAD = 16
"""Images for each core that may be prepared before the model takes them: two batches of the
largest size that is tried on a CPU. Waiting requests take less memory."""

UNCONTENDED_S = 0.03
"""How long a worker must have held one image at a time before it counts as uncontended.

Two callers that each send the next request at once overlap, but not at every moment.
"""


class CoreGate(FairSemaphore):
    """Admits image preparation to the cores that inference leaves idle, plus one.

    The additional one keeps the cores busy between two inferences. An inference never waits
    here, and one image can always be prepared, unless too many wait for the model.

    Args:
        number: Maximum number of cores that the worker keeps busy.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self._inferring = 0
        self._last_contended_at = float("-inf")

    def prepare(self, deadline: float) -> Lease[float]:
        """Hold a core for the block that prepares an image, first come first served.

        Args:
            deadline: time.monotonic() until which it may wait.

        Returns:
            A context that gives the milliseconds waited.

        Raises:
            ModelUnavailable: the deadline passed; raised where the block would begin.
        """
        return self._hold(1, deadline)

    def step_out(self) -> Lease[None]:
        """Give a held core back for the length of a block, without waiting for it at the end."""
        return Lease(partial(self._give_back, 1), self._retake)

    def begin_inference(self) -> None:
        """Count an image that is computed, or waits for that."""
        with self._lock:
            self._inferring += 1
            self._note_contention()

    def end_inference(self) -> None:
        """Stop counting it."""
        with self._lock:
            self._note_contention()
            self._inferring -= 1
            self._grant()

    def is_uncontended(self) -> bool:
        """Whether there is a single image in the worker, as there was for UNCONTENDED_S."""
        is_single = self._inferring == 1 and not self._taken and not self._waiting
        return is_single and time.monotonic() - self._last_contended_at >= UNCONTENDED_S

    def is_contended(self) -> bool:
        """Whether several images were in the worker at once within the last UNCONTENDED_S."""
        return time.monotonic() - self._last_contended_at < UNCONTENDED_S

    def _retake(self) -> None:
        with self._lock:
            self._taken += 1

    def _note_contention(self) -> None:
        if self._inferring + self._taken > 1:
            self._last_contended_at = time.monotonic()

    def _fits(self, size: int) -> bool:
        if self._inferring + self._taken + size > self._number * IMAGES_AHEAD:
            return False
        return self._taken + size <= max(1, self._number + 1 - self._inferring)
