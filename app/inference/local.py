"""A package's classifier without a server, through the same steps as a request."""

from pathlib import Path

from app.imaging.decode import decode
from app.imaging.guard import guard
from app.inference.classifier import deadline_after, load_classifier
from app.inference.engine import use_one_thread_per_operation
from app.inference.queue import InferenceQueue
from app.inference.scores import rank
from app.packages.package import load_package

_NO_HURRY_MS = 3_600_000


class LocalClassifier:
    """A package loaded on the CPU of this process.

    Args:
        folder: the package's folder, ``weights/NAME/VERSION``.

    Raises:
        PackageError: the package cannot be loaded.
    """

    def __init__(self, folder: Path) -> None:
        use_one_thread_per_operation()
        self._classifier = load_classifier(load_package(folder), "cpu", InferenceQueue(1))

    def classify(self, data: bytes, top_num: int) -> list[dict[str, str | float]]:
        """Classify the bytes of an image file; see app.inference.scores.rank.

        Raises:
            ApiError: as a server would answer it.
        """
        header, data = guard(data)
        image = self._classifier.package.preprocessor(decode(header, data))
        inference = self._classifier.infer(image, deadline_after(_NO_HURRY_MS))
        return rank(inference.scores, self._classifier.package.labels, top_num)
