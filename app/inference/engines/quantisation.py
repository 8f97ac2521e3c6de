"""Post-training quantisation to int8, calibrated on photos.

It uses NNCF, the optional extra ``int8``, which only the tuning process and ``package optimise``
import, never a worker.
"""

import io
import logging
import os
import warnings
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from app.inference.engines.base import EngineError, FloatArray
from app.inference.engines.openvino import import_openvino
from app.inference.golden.samples import read_pixels
from app.packages.package import Package


def require_nncf() -> None:
    """Check that what quantises is installed.

    Raises:
        EngineError: OpenVINO or NNCF is not.
    """
    import_openvino()
    _import_nncf()


_LAYERS = {"Convolution", "GroupConvolution", "MatMul"}
"""Types of the operations that hold nearly all the arithmetic of a classifier."""


def layers_of(model: Any) -> list[str]:
    """List the convolutions and matrix products of an ``openvino.Model``, by name, in order."""
    ordered = model.get_ordered_ops()
    return [op.get_friendly_name() for op in ordered if op.get_type_name() in _LAYERS]


def quantise(
    model: Any, images: Sequence[FloatArray], in_float: Collection[str] = (), rough: bool = False
) -> Any:
    """Quantise a model's convolutions and matrix products to 8-bit weights and activations.

    Args:
        model: an ``openvino.Model`` in float32; it is not modified.
        images: show the ranges of the activations, float32 (1, C, H, W) each.
        in_float: names of layers_of that stay in float32.
        rough: whether to correct the biases by a faster and less exact method.

    Returns:
        A new ``openvino.Model``, in memory only.

    Raises:
        EngineError: NNCF is not installed or does not support the model.
    """
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
                fast_bias_correction=rough,
                ignored_scope=nncf.IgnoredScope(names=list(in_float)) if in_float else None,
            )
        except Exception as exc:
            # NNCF has its own exceptions, and OpenVINO raises bare RuntimeError.
            raise EngineError("nncf cannot quantise the model") from exc


def golden_images(package: Package) -> list[FloatArray]:
    """Preprocess the golden samples of a package, float32 (1, C, H, W) each.

    Raises:
        EngineError: it has none.
        PackageError: one is not a valid image.
    """
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
