"""The bound on the memory that request bodies take in a worker."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from app.errors import ModelUnavailable

EVICTED_DETAIL = "the body came too slowly while there was no room for others"

EVICTABLE_AFTER_S = 2.0
"""How long a body may take to arrive before it has to make room for others."""


class BodyMemory:
    """Bounds the bytes of all request bodies together; used by greenlets of one event loop.

    Bytes are reserved in steps as a body arrives, so that a client that announces a long body
    and sends none holds only the first step. When no room is left, the body that has been
    arriving for the longest time is evicted: slow clients make room for fast ones, not the
    other way round.

    Args:
        max_bytes: for all bodies together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._arriving: dict[Reservation, None] = {}

    def reserve(self, evict: Callable[[], None]) -> "Reservation":
        """Open the reservation of one body, to be used in a ``with`` block.

        Args:
            evict: aborts the reception of the body; called at most once.
        """
        return Reservation(self, evict)

    def used_bytes(self) -> int:
        """The bytes that are reserved."""
        return self._used_bytes

    def begin(self, reservation: "Reservation") -> None:
        """Count a body as arriving; the oldest is first in line for eviction."""
        self._arriving[reservation] = None

    def take(self, reservation: "Reservation", size: int) -> None:
        """Reserve more bytes for a body.

        Raises:
            ModelUnavailable: there is no room, and no body that is slow enough to evict; or
                this body was evicted.
        """
        if reservation.is_evicted:
            raise ModelUnavailable(EVICTED_DETAIL)
        while self._used_bytes + size > self._max_bytes:
            if not self.evict(reservation):
                raise ModelUnavailable("the memory for request bodies is used up")
        self._used_bytes += size
        reservation.size += size

    def complete(self, reservation: "Reservation") -> None:
        """A body has arrived: it is no longer evicted."""
        self._arriving.pop(reservation, None)

    def release(self, reservation: "Reservation") -> None:
        """Give a body's bytes back."""
        self.complete(reservation)
        self._used_bytes -= reservation.size
        reservation.size = 0

    def evict(self, asking: "Reservation | None" = None) -> bool:
        """Evict the body that has been arriving longest; say whether one is slow enough.

        Args:
            asking: a body that stays.
        """
        oldest = next((each for each in self._arriving if each is not asking), None)
        if oldest is None or time.monotonic() - oldest.started < EVICTABLE_AFTER_S:
            return False
        self.release(oldest)
        oldest.is_evicted = True
        oldest.evict()
        return True


class Reservation:
    """The memory of one body, given back at the end of a ``with`` block.

    Attributes:
        is_evicted: whether it had to make room for others.
    """

    def __init__(self, memory: BodyMemory, evict: Callable[[], None]) -> None:
        self._memory = memory
        self.evict = evict
        self.started = time.monotonic()
        self.size = 0
        self.is_evicted = False

    def __enter__(self) -> Self:
        """Count the body as arriving."""
        self._memory.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the bytes back; a failure goes on."""
        self._memory.release(self)

    def grow(self, size: int) -> None:
        """Reserve more bytes; see BodyMemory.take."""
        self._memory.take(self, size)

    def complete(self) -> None:
        """Note that the body has arrived."""
        self._memory.complete(self)
