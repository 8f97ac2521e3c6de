"""A package on its device, ready to answer."""

import time
from dataclasses import dataclass

import numpy as np

from app.errors import PackageError
from app.inference.engines.base import Engine, FloatArray, LoadedEngine
from app.inference.golden.check import GoldenResult, check_golden
from app.inference.queue import InferenceQueue
from app.inference.scores import to_scores
from app.inference.tuning.loader import Loader
from app.packages.package import Package

WARM_UP_ROUNDS = 3
"""TorchScript's profiling executor is slow on its first two calls at each batch size."""


@dataclass(frozen=True)
class Inference:
    """Scores of one image and what they took.

    Attributes:
        scores: float32 (classes,).
        queue_ms: time waited for an inference thread.
        infer_ms: time of the batch that it was computed in.
        batch_size: how many images that batch had.
    """

    scores: FloatArray
    queue_ms: float
    infer_ms: float
    batch_size: int


class Classifier:
    """One package's model behind the worker's queue.

    Args:
        package: the checked package.
        model: its loaded model.
        queue: the worker's inference queue.
    """

    def __init__(self, package: Package, model: LoadedEngine, queue: InferenceQueue) -> None:
        self.package = package
        self.engine = model.engine
        self._model = model
        self._queue = queue
        self.golden: GoldenResult | None = None

    def infer(self, image: FloatArray, deadline: float, in_caller: bool = False) -> Inference:
        """Compute the scores of one preprocessed image.

        Args:
            image: float32 (C, H, W).
            deadline: time.monotonic() after which it is no longer computed.
            in_caller: see InferenceQueue.infer.

        Raises:
            ModelUnavailable: no inference thread was free in time.
            InternalError: the model failed or gave no finite scores.
        """
        job = self._queue.infer(self._model, image, deadline, in_caller)
        assert job.output is not None  # noqa: S101 - infer() raised otherwise
        scores = to_scores(job.output, self.package.manifest.output)
        return Inference(scores, job.queue_ms, job.infer_ms, job.batch_size)

    def warm_up(self) -> None:
        """Run every batch size until it is fast, and check the output's shape.

        Raises:
            PackageError: the model cannot take the input that its manifest describes, or
                its output has another number of classes.
        """
        spec = self.package.manifest.input
        shape = (spec.channels, spec.height, spec.width)
        for size in range(1, self._model.max_batch + 1):
            self._warm_up(self.engine, np.zeros((size, *shape), np.float32))
        if self._model.latency_engine:
            self._warm_up(self._model.latency_engine, np.zeros((1, *shape), np.float32))

    def check(self) -> None:
        """Require the engine to give the package's known answers; see check_golden."""
        self.golden = check_golden(self.package, self.engine)
        if self._model.latency_engine:
            check_golden(self.package, self._model.latency_engine)

    @property
    def worst_difference(self) -> float | None:
        """The largest difference from the known scores, None before check or without them."""
        return self.golden.worst_difference if self.golden else None

    def _warm_up(self, engine: Engine, batch: FloatArray) -> None:
        for _ in range(WARM_UP_ROUNDS):
            self._check_output(self._run(engine, batch), len(batch))

    def _run(self, engine: Engine, batch: FloatArray) -> FloatArray:
        try:
            return engine.infer(batch)
        except Exception as exc:
            raise PackageError(
                str(self.package.model_path),
                "input",
                f"the model failed on an input of shape {batch.shape} as the manifest describes it",
            ) from exc

    def _check_output(self, output: FloatArray, size: int) -> None:
        expected = (size, self.package.manifest.output.classes)
        if output.shape != expected:
            raise PackageError(
                str(self.package.folder / "manifest.json"),
                "output.classes",
                f"the model's output has shape {output.shape}, expected {expected}",
            )


def load_classifier(package: Package, loader: Loader, queue: InferenceQueue) -> Classifier:
    """Load a package's model, warm it up and check its known answers.

    Raises:
        PackageError: the model cannot be loaded, does not fit its manifest, or gives other
            scores than the package's golden samples have.
        LockedPackage: it is sealed, and the package has no content key.
    """
    classifier = Classifier(package, loader.load(package), queue)
    classifier.warm_up()
    classifier.check()
    return classifier


def deadline_after(milliseconds: int) -> float:
    """The time.monotonic() that lies so many milliseconds ahead."""
    return time.monotonic() + milliseconds / 1000
