"""The reference scores with which the scores of every engine are compared."""

from collections.abc import Iterator

import numpy as np

from app.errors import InternalError, PackageError
from app.imaging.resample import ByteArray
from app.inference.engines.base import Engine, FloatArray
from app.inference.engines.plain import load_reference
from app.inference.golden.check import measure_golden
from app.inference.scores import to_scores
from app.packages.package import Package

PROBES = 16
PROBE_SIDE_PX = 512


class Reference:
    """The package's golden samples, or without any, load_reference's scores of probes.

    The tolerance is the maximum difference of a score for a package without golden samples.

    Attributes:
        inputs: the probes, float32 (PROBES, C, H, W).
        tolerance: maximum difference of a score.

    Raises:
        PackageError: the model fails on the probes.
    """

    def __init__(self, package: Package, tolerance: float) -> None:
        self._package = package
        self.tolerance = package.golden.tolerance if package.golden else tolerance
        self.inputs = probe_batch(package)
        try:
            self._scores = self._score(load_reference(package))
        except InternalError as exc:
            raise PackageError(package.model_path, exc.detail, field="output") from exc
        except RuntimeError as exc:
            raise PackageError(
                package.model_path,
                "the model failed on inputs that fit the manifest",
                field="input",
            ) from exc

    def compare(self, engine: Engine) -> float:
        """Return the largest difference of an engine's scores for single images.

        Raises:
            InternalError: an output is not finite, or has the wrong shape.
            PackageError: the engine fails on a golden sample.
        """
        if golden := self._package.golden:
            return measure_golden(self._package, golden, engine).worst_difference
        return float(np.abs(self._score(engine) - self._scores).max())

    def _score(self, engine: Engine) -> FloatArray:
        """Score the probes one by one: BatchCheck compares batches with that."""
        spec = self._package.manifest.output
        outputs = [engine.infer(image[np.newaxis])[0] for image in self.inputs]
        return np.stack([to_scores(output, spec) for output in outputs])


def probe_batch(package: Package) -> FloatArray:
    """Generate inputs for a package without golden samples.

    They are mosaics of random colours, from a few large tiles to single pixels, preprocessed
    by the package's steps: they contain every spatial frequency, and their values are in the
    range of those of photos.

    Returns:
        float32 (PROBES, C, H, W), the same on every call.
    """
    return np.stack([package.preprocessor(image) for image in _mosaics()])


def _mosaics() -> Iterator[ByteArray]:
    generator = np.random.default_rng(0)
    for index in range(PROBES):
        tiles = 2 ** (index % 9 + 1)
        colours = generator.integers(0, 256, (tiles, tiles, 3), dtype=np.uint8)
        side = PROBE_SIDE_PX // tiles
        yield np.ascontiguousarray(colours.repeat(side, axis=0).repeat(side, axis=1))
