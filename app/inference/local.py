"""A package's classifier without a server; an image takes the same steps as in a request."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from typing import TypeVar

from app.inference.classifier import deadline_after, load_classifier
from app.inference.engines.base import FloatArray, use_one_thread_per_operation
from app.inference.explanation import Explanation, explain, require_label
from app.inference.preparation import prepare_image
from app.inference.queue import InferenceQueue
from app.inference.scores import rank
from app.inference.tuning.loader import Loader, load_exact
from app.packages.package import Package
from app.system.cpus import usable_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")

_DEADLINE_MS = 3_600_000
_REQUEST_THREADS = 2
"""For each inference thread: one decodes while another's image is computed."""


class LocalClassifier:
    """A package loaded in this process, with an inference thread for each core.

    Args:
        package: the package; a sealed one must have its content key.
        loader: loads its model; by default on the CPU, without tuning.
        threads: number of inference threads; None for one for each core.

    Attributes:
        package: as given.
        engine: its engine.
        name: of the engine.
        golden: its difference from the golden samples; None without any.

    Raises:
        PackageError: the package cannot be loaded, or fails its golden samples.
    """

    def __init__(
        self, package: Package, loader: Loader = load_exact, threads: int | None = None
    ) -> None:
        use_one_thread_per_operation()
        self._threads = threads or usable_cpus()
        self._classifier = load_classifier(package, loader, InferenceQueue(self._threads))
        self.package = package
        self.engine = self._classifier.engine
        self.name = self.engine.name
        self.golden = self._classifier.golden

    def score(self, image_bytes: bytes) -> FloatArray:
        """Compute the scores of an image file, float32 (classes,); see prepare_image for errors."""
        return self._infer(prepare_image(image_bytes, self.package)[1])

    def classify(self, image_bytes: bytes, top_num: int) -> list[dict[str, str | float]]:
        """Classify an image file; see score, and app.inference.scores.rank."""
        return rank(self.score(image_bytes), self.package.labels, top_num)

    def explain(self, image_bytes: bytes, label: str | None) -> Explanation:
        """Explain the score of a class; see require_label, explain and score."""
        require_label(self.package.labels, label)
        prepared = prepare_image(image_bytes, self.package)
        return explain(self._infer, self.package, prepared, label, inf)

    def _infer(self, model_input: FloatArray) -> FloatArray:
        return self._classifier.infer(model_input, deadline_after(_DEADLINE_MS)).scores

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply ``work``, which scores or classifies, to items on all cores, in their order.

        Only a few items are in progress at a time, which bounds the memory.
        """
        threads = self._threads * _REQUEST_THREADS
        with ThreadPoolExecutor(threads) as pool:
            pending: deque[Future[Result]] = deque()
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
