"""A package on its device, ready to classify."""

import logging
import time
from dataclasses import dataclass, replace

import numpy as np

from app.errors import InternalError, PackageError
from app.inference.batch_check import BatchCheck, sample_inputs
from app.inference.engines.base import Engine, FloatArray, LoadedEngine, warm_up
from app.inference.golden.check import GoldenResult, check_golden
from app.inference.queue import InferenceQueue
from app.inference.scores import to_scores
from app.inference.tuning.loader import Loader
from app.packages.manifest import MANIFEST_FILE
from app.packages.package import Package

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inference:
    """Scores of one image, with timings.

    Attributes:
        scores: float32 (classes,).
        queue_ms: time in the queue.
        infer_ms: computing time of the image's batch.
        batch_size: number of images in this batch.
    """

    scores: FloatArray
    queue_ms: float
    infer_ms: float
    batch_size: int


class Classifier:
    """One package's model behind the worker's queue."""

    def __init__(self, package: Package, loaded: LoadedEngine, queue: InferenceQueue) -> None:
        self.package = package
        self.engine = loaded.engine
        self._loaded = loaded
        self._queue = queue
        self.golden: GoldenResult | None = None

    def infer(self, image: FloatArray, deadline: float, in_caller: bool = False) -> Inference:
        """Compute the scores of one preprocessed image.

        Args:
            image: float32 (C, H, W).
            deadline: time.monotonic() after which it is no longer computed.
            in_caller: see InferenceQueue.infer.

        Raises:
            ModelUnavailable: no inference thread was free before the deadline.
            InternalError: the model failed, or its scores are not finite.
        """
        job = self._queue.infer(self._loaded, image, deadline, in_caller)
        assert job.output is not None  # noqa: S101 - infer() raised otherwise
        scores = to_scores(job.output, self.package.manifest.output)
        return Inference(scores, job.queue_ms, job.infer_ms, job.batch_size)

    def warm_up(self) -> None:
        """Run every batch size until it is fast, and check the output's shape.

        If images change each other's scores in a batch, they are computed one at a time.

        Raises:
            PackageError: the model does not accept the input that its manifest describes, or
                its output has another number of classes.
        """
        self._warm_up(self.engine)
        if self._loaded.latency_engine:
            self._warm_up(self._loaded.latency_engine)
        problem = self._find_batch_problem()
        if problem:
            _log.warning("%s: one image at a time: %s", self.package.manifest.name, problem)
            self._loaded = replace(self._loaded, max_batch=1)

    def _find_batch_problem(self) -> str:
        """Check every batch size, which warms it up."""
        sizes = range(2, self._loaded.max_batch + 1)
        if not sizes:
            return ""
        check = BatchCheck(self.package, self.engine, self._loaded.batch_tolerance)
        return next(filter(None, map(check.find_problem, sizes)), "")

    def check(self) -> None:
        """Compare both engines with the package's golden samples, and require probabilities.

        Raises:
            PackageError: see check_golden; or the output is declared as probabilities and is
                none.
        """
        self.golden = check_golden(self.package, self.engine)
        if self._loaded.latency_engine:
            check_golden(self.package, self._loaded.latency_engine)
        output = self.package.manifest.output
        if output.kind != "probabilities":
            return
        try:
            for image in sample_inputs(self.package):
                to_scores(self.engine.infer(image[np.newaxis])[0], output)
        except InternalError as exc:
            manifest = self.package.folder / MANIFEST_FILE
            raise PackageError(manifest, exc.detail, field="output.kind") from exc

    @property
    def worst_difference(self) -> float | None:
        """Maximum difference of a golden score; None before check, or without samples."""
        return self.golden.worst_difference if self.golden else None

    def _warm_up(self, engine: Engine) -> None:
        spec = self.package.manifest.input
        batch = np.zeros((1, spec.channels, spec.height, spec.width), np.float32)
        try:
            output = warm_up(engine, batch)
        except Exception as exc:
            raise PackageError(
                self.package.model_path,
                f"the model failed on an input of shape {batch.shape} as the manifest describes it",
                field="input",
            ) from exc
        expected = (1, self.package.manifest.output.classes)
        if output.shape != expected:
            raise PackageError(
                self.package.folder / MANIFEST_FILE,
                f"the model's output has shape {output.shape}, expected {expected}",
                field="output.classes",
            )


def load_classifier(package: Package, loader: Loader, queue: InferenceQueue) -> Classifier:
    """Load a package's model, warm it up and check its golden samples.

    Raises:
        PackageError: the model cannot be loaded, does not fit its manifest, or fails the
            package's golden samples.
        LockedPackage: it is sealed, and the package has no content key.
    """
    classifier = Classifier(package, loader(package), queue)
    classifier.warm_up()
    classifier.check()
    return classifier


def deadline_after(milliseconds: int) -> float:
    """Return the time.monotonic() of a moment that is this many milliseconds ahead."""
    return time.monotonic() + milliseconds / 1000
