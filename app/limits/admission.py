"""The bound on the requests that a worker holds at once."""

from app.errors import ModelUnavailable
from app.limits.lease import Lease


class Admission:
    """Counts the requests in flight; only greenlets of one event loop admit and leave.

    Args:
        max_in_flight: Maximum number of requests in flight.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    def admit(self) -> Lease[bool]:
        """Take a place for the duration of a block, which learns whether there was one."""
        if self.is_full():
            return Lease(lambda: False, lambda: None)
        return Lease(self._enter, self._leave)

    def is_full(self) -> bool:
        """Whether every place is taken."""
        return self._in_flight >= self._max_in_flight

    def refusal(self) -> ModelUnavailable:
        """The error for a request that finds no place."""
        return ModelUnavailable(f"{self._max_in_flight} requests are already in flight")

    def in_flight(self) -> int:
        """The number of requests that have a place."""
        return self._in_flight

    def _enter(self) -> bool:
        self._in_flight += 1
        return True

    def _leave(self) -> None:
        self._in_flight -= 1
