"""A run of ``classifyd batch``, from the photos of a source to the files of rows."""

import time
from collections import Counter
from collections.abc import Iterator

from app.batch.job import Compute, Shard
from app.batch.photos import Source
from app.batch.results import ResultsFolder


class Run:
    """The shards of a source that are complete, and those that are missing.

    Attributes:
        out: the results folder.
        photos: number of all photos.
        earlier: number of rows that an earlier run has written.
        done: number of rows that are written.
        errors: those among them with an error, by its code.

    Args:
        source: the photos.
        folder: where the rows go, with its plan.
        complete: see ResultsFolder.begin.
    """

    def __init__(
        self, source: Source, folder: ResultsFolder, complete: dict[int, Counter[int]]
    ) -> None:
        assert folder.plan  # noqa: S101 - after begin
        places = folder.plan.shards()
        self._folder = folder
        self._missing = [
            Shard(index, source.photos[place.start : place.stop])
            for index, place in enumerate(places)
            if index not in complete
        ]
        self.out = folder.folder
        self.photos = len(source.photos)
        self.earlier = self.done = sum(len(places[index]) for index in complete)
        self.errors = sum(complete.values(), Counter[int]())
        self._started: float | None = None

    def write(self, compute: Compute) -> Iterator[None]:
        """Write the missing shards; give back control after each.

        Raises:
            OperatorError: see the implementations of Compute.
            OSError: a file cannot be written.
        """
        if not self._missing:
            return
        lengths = {shard.index: len(shard.photos) for shard in self._missing}
        for rows in compute(self._missing):
            self._folder.write_shard(rows.index, rows.content)
            self.done += lengths[rows.index]
            self.errors += rows.errors
            yield

    def begin_clock(self) -> None:
        """Begin to measure the rate, when the models are loaded; a second call does nothing."""
        self._started = self._started or time.monotonic()

    def rate(self, classified: int) -> float:
        """Return the photos in a second, if this many were classified by this run."""
        if self._started is None:
            return 0.0
        return classified / max(1e-6, time.monotonic() - self._started)
