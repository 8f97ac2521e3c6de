"""From the bytes of an image file to the input of a model, in the same way for every caller."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from app.imaging.decode import decode
from app.imaging.guard import guard
from app.imaging.header import ImageHeader
from app.imaging.preprocess import FloatArray
from app.imaging.resample import ByteArray
from app.packages.package import Package

Stage = Callable[[str], AbstractContextManager[object]]
Reserve = Callable[[ImageHeader], AbstractContextManager[object]]
Remark = Callable[[str], object]

_Result = TypeVar("_Result")


def prepare_image(
    image_bytes: bytes,
    package: Package,
    stage: Stage = nullcontext,
    reserve: Reserve = nullcontext,
    remark: Remark = lambda _: None,
) -> tuple[ImageHeader, FloatArray]:
    """Guard, decode and preprocess an image file.

    Args:
        image_bytes: the whole file, from an untrusted source.
        package: its preprocessing, whether a large jpg may be decoded at a reduced size, and
            whether the orientation is applied.
        stage: times the block of a stage: ``guard``, ``decode`` or ``preprocess``.
        reserve: holds the memory for the pixels of an image; called once the header is known,
            even if decoding then fails.
        remark: called with an irregularity of the file that affects no pixel.

    Returns:
        The header, and the model's input, float32 (C, height, width).

    Raises:
        ApiError: see guard and decode.
    """
    return _prepare(image_bytes, package, package.preprocessor, stage, reserve, remark)


def preview_image(
    image_bytes: bytes, package: Package, reserve: Reserve = nullcontext
) -> ByteArray:
    """Do the same without scale and normalisation; see Preprocessor.fit for the result."""
    fit = package.preprocessor.fit
    return _prepare(image_bytes, package, fit, nullcontext, reserve, lambda _: None)[1]


def _prepare(
    image_bytes: bytes,
    package: Package,
    transform: Callable[[ByteArray], _Result],
    stage: Stage,
    reserve: Reserve,
    remark: Remark,
) -> tuple[ImageHeader, _Result]:
    with stage("guard"):
        header, image_bytes = guard(image_bytes)
    with reserve(header):
        with stage("decode"):
            reduction, orientation = package.reduction(header), package.manifest.orientation
            pixels = decode(header, image_bytes, reduction, orientation, remark)
        with stage("preprocess"):
            result = transform(pixels)
        # Free the pixels while their memory is still reserved.
        del pixels
    return header, result
