"""Whether an engine computes each image of a batch as it does alone.

A model with a statistic over the batch, such as a BatchNorm layer without running statistics,
would mix the images of several callers.
"""

import numpy as np

from app.errors import InternalError
from app.inference.engines.base import Engine, FloatArray
from app.inference.golden.samples import read_pixels
from app.inference.scores import convert
from app.inference.tuning.reference import probe_batch
from app.packages.package import Package

MATES_TOLERANCE = 1e-4
"""Maximum change of a score by other batch-mates. At the same place in a batch of the same size
an engine does the same arithmetic, so that even in bfloat16 the scores are equal; only atomic
additions on a GPU round differently."""

MAX_GOLDEN_INPUTS = 8


SIZES = (2, 8)
"""Tried without tuning, which tries those that it measures."""

SIZE_TOLERANCE = 0.001
"""Without golden samples: the default of score_tolerance_permille."""


def find_batch_problem(package: Package, engine: Engine) -> str:
    """Say why the images of a package must be computed one at a time; empty if they need not."""
    tolerance = package.golden.tolerance if package.golden else SIZE_TOLERANCE
    check = BatchCheck(package, engine, tolerance)
    return next(filter(None, map(check.find_problem, SIZES)), "")


class BatchCheck:
    """Compares the scores of an engine for images alone and in batches.

    Args:
        package: its golden samples and probes are the images.
        engine: its loaded model.
        tolerance: maximum change of a score by the size of a batch.

    Raises:
        InternalError: the model fails on one image.
        PackageError: a golden sample is not a valid image.
    """

    def __init__(self, package: Package, engine: Engine, tolerance: float) -> None:
        self._engine = engine
        self._tolerance = tolerance
        self._output = package.manifest.output
        self._inputs = sample_inputs(package)
        self._alone = np.concatenate([self._score(image[np.newaxis]) for image in self._inputs])

    def find_problem(self, size: int) -> str:
        """Say why batches of a size must not be used; empty if they may.

        The engine is warm at this size afterwards: it computes WARM_UP_CALLS batches.
        """
        first = np.arange(size) % len(self._inputs)
        second = (first + len(self._inputs) // 2) % len(self._inputs)
        odd = np.arange(size) % 2 == 1
        try:
            scores = self._score(self._inputs[first])
            by_size = _largest(scores - self._alone[first])
            # The same images at every other place, among different ones.
            by_mates = max(
                _largest(
                    self._score(self._inputs[np.where(kept, first, second)])[kept] - scores[kept]
                )
                for kept in (odd, ~odd)
            )
        except Exception:
            # Torch and OpenVINO raise a dozen types for a shape that a model does not support.
            return f"the model fails on a batch of {size} images"
        if by_mates > MATES_TOLERANCE:
            return f"in a batch of {size}, other images change a score by {by_mates:.4f}"
        if by_size > self._tolerance:
            return f"a batch of {size} changes a score by {by_size:.4f}"
        return ""

    def _score(self, batch: FloatArray) -> FloatArray:
        outputs = self._engine.infer(batch)
        if len(outputs) != len(batch):
            raise InternalError("the model's output has the wrong shape")
        return np.stack([convert(output, self._output) for output in outputs])


def sample_inputs(package: Package) -> FloatArray:
    """Preprocess some golden samples and the probes, float32 (N, C, H, W)."""
    paths = package.golden.images[:MAX_GOLDEN_INPUTS] if package.golden else ()
    orientation = package.manifest.orientation
    golden = [package.preprocessor(read_pixels(path, orientation)) for path in paths]
    return np.stack([*golden, *probe_batch(package)])


def _largest(differences: FloatArray) -> float:
    return float(np.abs(differences).max(initial=0))
