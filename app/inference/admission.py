"""The bound on requests in a worker."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import ModelUnavailable


class Admission:
    """Lets a bounded number of requests in; refuses the next one at once.

    Args:
        max_in_flight: how many may be inside.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._lock = threading.Lock()

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place for the duration of the block.

        Raises:
            ModelUnavailable: every place is taken.
        """
        with self._lock:
            if self._in_flight >= self._max_in_flight:
                raise ModelUnavailable(f"{self._max_in_flight} requests are already in flight")
            self._in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def in_flight(self) -> int:
        """Count the requests inside."""
        return self._in_flight
