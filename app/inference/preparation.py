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
"""Gives a context that times the stage of this name: ``guard``, ``decode``, ``preprocess``."""

Reserve = Callable[[ImageHeader], AbstractContextManager[object]]
"""Gives a context that holds the memory to decode and preprocess an image of this size."""

_Result = TypeVar("_Result")


def prepare_image(
    image_bytes: bytes,
    package: Package,
    stage: Stage = nullcontext,
    reserve: Reserve = nullcontext,
) -> tuple[ImageHeader, FloatArray]:
    """Guard, decode and preprocess an image file; the decoded pixels are freed on return.

    Args:
        image_bytes: a whole file, from an untrusted source.
        package: its preprocessing, and whether a large jpg may be decoded at a reduced size.
        stage: times the stages; no timing by default.
        reserve: is called once the header is known, even if decoding then fails; no
            reservation by default.

    Returns:
        The header, and the model's input, float32 (C, height, width).

    Raises:
        InvalidImageSize: see guard.
        ImageDecodeFailed: see guard and decode.
    """
    return _prepare(image_bytes, package, package.preprocessor, stage, reserve)


def preview_image(
    image_bytes: bytes, package: Package, reserve: Reserve = nullcontext
) -> ByteArray:
    """Guard, decode, crop and resize an image file, without scaling its values.

    Args:
        image_bytes: see prepare_image.
        package: see prepare_image.
        reserve: see prepare_image.

    Returns:
        What the model sees, uint8 (height, width, C), RGB or grey.

    Raises:
        ApiError: see prepare_image.
    """
    return _prepare(image_bytes, package, package.preprocessor.fit, nullcontext, reserve)[1]


def _prepare(
    image_bytes: bytes,
    package: Package,
    transform: Callable[[ByteArray], _Result],
    stage: Stage,
    reserve: Reserve,
) -> tuple[ImageHeader, _Result]:
    with stage("guard"):
        header, image_bytes = guard(image_bytes)
    with reserve(header):
        with stage("decode"):
            pixels = decode(header, image_bytes, package.reduction(header))
        with stage("preprocess"):
            result = transform(pixels)
        # Free the pixels while their memory is still reserved.
        del pixels
    return header, result
