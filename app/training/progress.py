"""What a training tells while it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Says nothing; the command line overrides it."""

    def stage(self, text: str) -> None:
        """A stage begins."""

    def line(self, text: str) -> None:
        """A result of a stage, such as that of an epoch."""

    def warn(self, text: str) -> None:
        """Something about the data that the user should know."""

    @contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator[Callable[[int], object]]:
        """Count items up to a total; the function given is called with how many are new."""
        yield lambda _: None
