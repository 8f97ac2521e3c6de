"""Models in int8, calibrated on a package's golden samples; only where it is asked for.

NNCF, the optional extra ``int8``, does the work. It is imported by the process that measures
the engines, never by a worker.
"""

import io
import logging
import warnings
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from app.inference.engines.base import EngineError, FloatArray
from app.inference.engines.openvino import import_openvino
from app.inference.golden.samples import read_pixels
from app.packages.package import Package


def quantise(model: Any, package: Package) -> Any:
    """Give a model's convolutions and products 8-bit weights and inputs.

    Args:
        model: an ``openvino.Model`` in float32; it is left as it is.
        package: whose golden samples show which values its layers take.

    Returns:
        Another ``openvino.Model``, in memory alone.

    Raises:
        EngineError: NNCF is not there or cannot take the model, or the package has no golden
            samples.
        PackageError: a golden sample is no valid image.
    """
    images = _calibration_images(package)
    import_openvino()  # before NNCF, which would report to Google Analytics as OpenVINO does
    # Its progress bars and notices are for a terminal of its own.
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nncf = _import_nncf()
        try:
            return nncf.quantize(
                model,
                nncf.Dataset(images),
                subset_size=len(images),
                # Twice the time and, from 30 samples on, half the difference: docs/performance.md.
                fast_bias_correction=False,
            )
        except Exception as exc:
            # Its own kinds and OpenVINO's bare RuntimeError, with many lines of text.
            raise EngineError("nncf cannot quantise the model") from exc


def _calibration_images(package: Package) -> list[FloatArray]:
    """The golden samples as the model takes them, float32 (1, C, H, W) each."""
    if package.golden is None:
        raise EngineError(
            "int8 is calibrated on the package's golden samples, and it has none: build it "
            "again with photos (classifyd package build --golden), or set precision = float32"
        )
    return [package.preprocessor(read_pixels(path))[np.newaxis] for path in package.golden.images]


def _import_nncf() -> Any:
    try:
        import nncf
    except ImportError as exc:
        raise EngineError("nncf is not installed: pip install 'classifyd[int8]'") from exc
    nncf.set_log_level(logging.ERROR)
    return nncf
