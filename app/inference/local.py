"""A package's classifier without a server, through the same steps as a request."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from app.imaging.decode import decode
from app.imaging.guard import guard
from app.inference.classifier import deadline_after, load_classifier
from app.inference.engines.base import FloatArray, use_one_thread_per_operation
from app.inference.queue import InferenceQueue
from app.inference.scores import rank
from app.inference.tuning.loader import load_exact
from app.packages.package import Package
from app.system.cpus import usable_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")

_NO_HURRY_MS = 3_600_000
_REQUEST_THREADS = 2
"""For each inference thread: one decodes while another's image is computed."""


class LocalClassifier:
    """A package loaded on the CPU of this process, with an inference thread for each core.

    Args:
        package: the package; a sealed one with its content key.

    Raises:
        PackageError: the package cannot be loaded, or fails its golden samples.
    """

    def __init__(self, package: Package) -> None:
        use_one_thread_per_operation()
        self._threads = usable_cpus()
        self._classifier = load_classifier(package, load_exact, InferenceQueue(self._threads))

    @property
    def package(self) -> Package:
        """The package that answers."""
        return self._classifier.package

    @property
    def engine(self) -> str:
        """The name of the engine that computes."""
        return self._classifier.engine.name

    def score(self, data: bytes) -> FloatArray:
        """Compute the scores of the bytes of an image file, float32 (classes,).

        Raises:
            ApiError: as a server would answer it.
        """
        header, data = guard(data)
        image = self.package.preprocessor(decode(header, data, self.package.reduction(header)))
        return self._classifier.infer(image, deadline_after(_NO_HURRY_MS)).scores

    def classify(self, data: bytes, top_num: int) -> list[dict[str, str | float]]:
        """Classify the bytes of an image file; see app.inference.scores.rank.

        Raises:
            ApiError: as a server would answer it.
        """
        return rank(self.score(data), self.package.labels, top_num)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Run work that scores or classifies over items, on all cores, in their order.

        Only a few items are under way at once, so that any number needs little memory.
        """
        threads = self._threads * _REQUEST_THREADS
        with ThreadPoolExecutor(threads) as pool:
            under_way: deque[Future[Result]] = deque()
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) > 2 * threads:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
