"""From the bytes of an image file to the input of a model, in the same way for every caller."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

from app.imaging.decode import decode
from app.imaging.guard import guard
from app.imaging.header import ImageHeader
from app.imaging.preprocess import FloatArray
from app.imaging.resample import ByteArray
from app.packages.package import Package

Stage = Callable[[str], AbstractContextManager[object]]
Remark = Callable[[str], object]

_Result = TypeVar("_Result")


class Runner(Protocol):
    """Runs what decodes and preprocesses an image, once its header is known."""

    def __call__(self, header: ImageHeader, work: Callable[[], _Result], /) -> _Result:
        """Return what the work returns."""


def _run_here(_header: ImageHeader, work: Callable[[], _Result], /) -> _Result:
    return work()


def prepare_image(
    image_bytes: bytes,
    package: Package,
    stage: Stage = nullcontext,
    run: Runner = _run_here,
    remark: Remark = lambda _: None,
) -> tuple[ImageHeader, FloatArray]:
    """Guard, decode and preprocess an image file.

    Args:
        image_bytes: the whole file, from an untrusted source.
        package: its preprocessing, whether a large jpg may be decoded at a reduced size, and
            whether the orientation is applied.
        stage: times the block of a stage: ``guard``, ``decode`` or ``preprocess``.
        run: runs the decoding and what follows, where there is memory for the pixels.
        remark: called with an irregularity of the file that affects no pixel.

    Returns:
        The header, and the model's input, float32 (C, height, width).

    Raises:
        ApiError: see guard and decode.
    """
    return _prepare(image_bytes, package, package.preprocessor, stage, run, remark)


def preview_image(image_bytes: bytes, package: Package, run: Runner = _run_here) -> ByteArray:
    """Do the same without scale and normalisation; see Preprocessor.fit for the result."""
    fit = package.preprocessor.fit
    return _prepare(image_bytes, package, fit, nullcontext, run, lambda _: None)[1]


def _prepare(
    image_bytes: bytes,
    package: Package,
    transform: Callable[[ByteArray], _Result],
    stage: Stage,
    run: Runner,
    remark: Remark,
) -> tuple[ImageHeader, _Result]:
    with stage("guard"):
        header, image_bytes = guard(image_bytes)

    def make_input() -> _Result:
        with stage("decode"):
            reduction, orientation = package.reduction(header), package.manifest.orientation
            pixels = decode(header, image_bytes, reduction, orientation, remark)
        with stage("preprocess"):
            return transform(pixels)

    return header, run(header, make_input)
