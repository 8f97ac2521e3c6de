"""The bound on requests in a worker."""

import threading

from app.errors import ModelUnavailable
from app.limits.lease import Lease


class Admission:
    """Lets a bounded number of requests in; refuses the next one at once.

    Args:
        max_in_flight: how many may be inside.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._expected = 0
        self._lock = threading.Lock()
        self._thread = threading.local()

    def admit(self) -> Lease[None]:
        """Hold a place for the duration of the block.

        Raises:
            ModelUnavailable: every place is taken; raised where the block would begin.
        """
        return Lease(self._enter, self._leave)

    def _enter(self) -> None:
        self.arrive()
        with self._lock:
            if self._in_flight >= self._max_in_flight:
                raise self.refusal()
            self._in_flight += 1

    def _leave(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def refusal(self) -> ModelUnavailable:
        """What a request is answered that finds every place taken."""
        return ModelUnavailable(f"{self._max_in_flight} requests are already in flight")

    def is_full(self) -> bool:
        """Whether every place is taken, or will be by the requests on their way here."""
        return self._in_flight + self._expected >= self._max_in_flight

    def expect(self) -> None:
        """Count a request that is given to a thread, until that thread says ``arrive``."""
        with self._lock:
            self._expected += 1

    def set_out(self) -> None:
        """Note that this thread has taken an expected request."""
        self._thread.has_set_out = True

    def arrive(self) -> None:
        """Count this thread's expected request no more; nothing when it has none."""
        if getattr(self._thread, "has_set_out", False):
            self._thread.has_set_out = False
            with self._lock:
                self._expected -= 1

    def in_flight(self) -> int:
        """Count the requests inside."""
        return self._in_flight
