"""Post-training quantisation to int8, calibrated on a package's golden samples.

It uses NNCF, the optional extra ``int8``, which only the tuning process imports, never a
worker.
"""

import io
import logging
import os
import warnings
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from app.inference.engines.base import EngineError, FloatArray
from app.inference.engines.openvino import import_openvino
from app.inference.golden.samples import read_pixels
from app.packages.package import Package


def quantise(model: Any, package: Package) -> Any:
    """Quantise a model's convolutions and matrix products to 8-bit weights and activations.

    Args:
        model: an ``openvino.Model`` in float32; it is not modified.
        package: its golden samples show the ranges of the activations.

    Returns:
        A new ``openvino.Model``, in memory only.

    Raises:
        EngineError: NNCF is not installed or does not support the model, or the package has
            no golden samples.
        PackageError: a golden sample is not a valid image.
    """
    images = _calibration_images(package)
    import_openvino()  # before NNCF, which would report to Google Analytics as OpenVINO does
    # NNCF prints progress bars and notices.
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nncf = _import_nncf()
        try:
            return nncf.quantize(
                model,
                nncf.Dataset(images),
                subset_size=len(images),
                # Twice the time, but half the difference from 30 samples on: docs/performance.md.
                fast_bias_correction=False,
            )
        except Exception as exc:
            # NNCF has its own exceptions, and OpenVINO raises bare RuntimeError.
            raise EngineError("nncf cannot quantise the model") from exc


def _calibration_images(package: Package) -> list[FloatArray]:
    """The preprocessed golden samples, float32 (1, C, H, W) each."""
    if package.golden is None:
        raise EngineError(
            "int8 is calibrated on the package's golden samples, and it has none: build it "
            "again with photos (classifyd package build --golden), or set precision = float32"
        )
    orientation = package.manifest.orientation
    images = (read_pixels(path, orientation) for path in package.golden.images)
    return [package.preprocessor(pixels)[np.newaxis] for pixels in images]


def _import_nncf() -> Any:
    # NNCF looks up the home folder when it is imported, and fails for an account without one.
    os.environ.setdefault("HOME", "/")
    try:
        import nncf
    except ImportError as exc:
        raise EngineError("nncf is not installed: pip install 'classifyd[int8]'") from exc
    nncf.set_log_level(logging.ERROR)
    return nncf
