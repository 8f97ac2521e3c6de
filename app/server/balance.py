"""Which worker should accept the next connection.

The kernel offers a connection to all workers, and the fastest accepts it: of a burst of 16, one
of two workers accepts 15. Clients keep their connections for a long time, so that one worker can
end up with all of them while the cores of the others are idle.
"""

import mmap

SLOTS = 1024
"""Four times the maximum number of workers: a reload has old and new ones at once."""

_VACANT = 0xFFFF_FFFF


class Balance:
    """The number of connections of each worker, in shared memory.

    Create it in the master: the workers forked from it share the memory.
    """

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * SLOTS)).cast("I")
        for slot in range(SLOTS):
            self.clear(slot)

    def publish(self, slot: int, connections: int) -> None:
        """Publish the number of connections of the worker in a slot."""
        if slot < SLOTS:
            self._counts[slot] = connections

    def clear(self, slot: int) -> None:
        """Stop counting the worker in a slot: it has gone, or accepts no connections."""
        self.publish(slot, _VACANT)

    def is_anothers_turn(self, slot: int) -> bool:
        """Whether another worker has fewer connections than the one in a slot."""
        return slot < SLOTS and min(self._counts) < self._counts[slot]
