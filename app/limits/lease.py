"""Something that is held for the duration of a block."""

from collections.abc import Callable
from typing import Generic, TypeVar

Taken = TypeVar("Taken")


class Lease(Generic[Taken]):
    """A context manager of two functions; a generator in its place takes three times as long.

    Args:
        take: called where the block begins, which it may keep from beginning by raising; what
            it returns is what the block is given.
        give_back: called at the end of the block, however that ends.
    """

    def __init__(self, take: Callable[[], Taken], give_back: Callable[[], object]) -> None:
        self._take = take
        self._give_back = give_back

    def __enter__(self) -> Taken:
        """Take."""
        return self._take()

    def __exit__(self, *_failure: object) -> None:
        """Give back; a failure goes on."""
        self._give_back()
