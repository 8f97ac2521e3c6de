"""Which worker should take the next connection.

The kernel offers a connection to all workers, and the quickest one takes it. Clients keep
their connections for long, so that one worker can end up with all of them while the cores
of the others stand still.
"""

import mmap

PLACES = 1024
"""Four times the workers that the settings allow: a reload has old and new ones at once."""

_VACANT = 0xFFFF_FFFF


class Balance:
    """The number of connections of each worker, in memory that they share.

    To be made in the master: what is forked from it has the same memory.
    """

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * PLACES)).cast("I")
        for slot in range(PLACES):
            self.leave(slot)

    def show(self, slot: int, connections: int) -> None:
        """Say how many connections the worker of a slot has."""
        if slot < PLACES:
            self._counts[slot] = connections

    def leave(self, slot: int) -> None:
        """Count the worker of a slot no more: it has gone, or takes no connections."""
        self.show(slot, _VACANT)

    def is_anothers_turn(self, slot: int) -> bool:
        """Whether another worker has fewer connections than that of a slot."""
        return slot < PLACES and min(self._counts) < self._counts[slot]
