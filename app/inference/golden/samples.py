"""The images of a package's golden samples, and the scores that an engine gives for them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from app.errors import ApiError, PackageError
from app.imaging.decode import decode
from app.imaging.guard import guard
from app.imaging.header import OrientationRule
from app.imaging.preprocess import Preprocessor
from app.imaging.resample import ByteArray
from app.inference.engines.base import Engine, FloatArray
from app.inference.scores import convert
from app.packages.manifest import OutputSpec
from app.packages.package import Golden, Package
from app.system.files import read_regular

Scorer = Callable[[Preprocessor, OutputSpec], FloatArray]
"""Gives the scores of all golden samples, float32 (images, classes)."""


def make_scorer(package: Package, golden: Golden, engine: Engine) -> Scorer:
    """Decode the golden images once, to score them with several preprocessings and outputs.

    Raises:
        PackageError: a file is not a valid image; the scorer raises it when the model fails.
    """
    orientation = package.manifest.orientation
    images = [read_pixels(path, orientation) for path in golden.images]

    def score(preprocessor: Preprocessor, spec: OutputSpec) -> FloatArray:
        try:
            # One image at a time, as a server without load does.
            outputs = [engine.infer(preprocessor(pixels)[np.newaxis])[0] for pixels in images]
            return np.stack([convert(output, spec) for output in outputs])
        except Exception as exc:
            raise PackageError(
                package.model_path, f"the model failed on a golden sample in {engine.name}"
            ) from exc

    return score


def read_pixels(path: Path, orientation: OrientationRule) -> ByteArray:
    """Decode a golden image at its full size, uint8 (H, W, 3).

    Raises:
        PackageError: it is not an image that a request could carry.
    """
    try:
        return decode(*guard(read_regular(path)), orientation=orientation)
    except ApiError as exc:
        raise PackageError(path, f"is not a valid image: {exc.detail}") from exc
