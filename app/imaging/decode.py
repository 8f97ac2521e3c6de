"""Decoding of a guarded image file."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from app.errors import ImageDecodeFailed
from app.imaging.bmp16 import decode_bmp16
from app.imaging.guard_png import check_png
from app.imaging.header import ImageHeader, OrientationRule
from app.imaging.jpeg_damage import check_jpeg
from app.imaging.native_stderr import run_quietly

# The threads that serve requests use all cores already; OpenCV's own would only compete.
cv2.setNumThreads(1)
# It would log file paths and source lines to standard error for every broken upload.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

Reduction = Literal[1, 2, 4, 8]

# OpenCV has no named constants for reduced RGB. IMREAD_REDUCED_COLOR_n is the bit 8 * n with
# IMREAD_COLOR_BGR, which excludes IMREAD_COLOR_RGB, so the bit is used with the latter.
# The orientation is applied here, as OpenCV and Pillow disagree about where to find it.
_RGB = cv2.IMREAD_COLOR_RGB + cv2.IMREAD_IGNORE_ORIENTATION
_READ_FLAGS: dict[Reduction, int] = {
    1: _RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2 - cv2.IMREAD_COLOR_BGR + _RGB,
    4: cv2.IMREAD_REDUCED_COLOR_4 - cv2.IMREAD_COLOR_BGR + _RGB,
    8: cv2.IMREAD_REDUCED_COLOR_8 - cv2.IMREAD_COLOR_BGR + _RGB,
}

_ROTATIONS = {
    3: cv2.ROTATE_180,
    6: cv2.ROTATE_90_CLOCKWISE,
    8: cv2.ROTATE_90_COUNTERCLOCKWISE,
}
_FLIPS = {2: 1, 4: 0, 7: -1}


def decode(
    header: ImageHeader,
    data: bytes,
    reduce: Reduction = 1,
    orientation: OrientationRule = "exif",
    remark: Callable[[str], object] = lambda _: None,
) -> NDArray[np.uint8]:
    """Decode a file that ``guard`` accepted.

    Alpha is dropped (not blended), 16-bit samples keep their high byte, grey and CMYK are
    converted. A progressive jpg of 4096 x 4096 px takes up to 190 MB while it is decoded: the
    image, and two bytes per sample for its coefficients.

    Args:
        header: from ``guard``.
        data: from ``guard``, with this header.
        reduce: divides the sides of a jpg, rounding up, while decoding, which is faster and
            changes pixels a little; png and bmp are always decoded at full size.
        orientation: whether to turn the image upright, as the header says.
        remark: called with an irregularity of the file that affects no pixel.

    Returns:
        uint8 (height, width, 3), RGB, C-contiguous, owned by the caller.

    Raises:
        ImageDecodeFailed: the decoder refused the file, its coded data is damaged, or its size
            differs from the header's.
    """
    divisor: Reduction = reduce if header.format == "jpg" else 1
    if header.format == "png" and header.is_costly:
        # guard inflates no costly png, because it runs at the priority of all other images; this
        # runs in a costly thread. Finding the chunks again takes 2 % of the time of decoding.
        check_png(data)
    pixels: MatLike | None = decode_bmp16(data) if header.format == "bmp" else None
    if pixels is None:
        pixels = _decode_with_opencv(header, data, divisor, remark)
    size = (-(-header.height // divisor), -(-header.width // divisor), 3)
    if pixels.shape != size or pixels.dtype != np.uint8:
        raise ImageDecodeFailed(f"{header.format}: the decoded size is not that of the header")
    if orientation == "exif":
        pixels = turn_upright(pixels, header.orientation)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _decode_with_opencv(
    header: ImageHeader, data: bytes, divisor: Reduction, remark: Callable[[str], object]
) -> MatLike:
    try:
        pixels, has_printed = run_quietly(partial(_read, data, divisor))
    except cv2.error as error:
        raise ImageDecodeFailed(f"{header.format}: the image data cannot be decoded") from error
    if pixels is None:
        raise ImageDecodeFailed(f"{header.format}: the image data cannot be decoded")
    if header.format == "jpg" and (has_printed or not _PRINTS_WARNINGS):
        irregularity = check_jpeg(data)
        if irregularity:
            remark(irregularity)
    return pixels


def _read(data: bytes, divisor: Reduction = 1) -> MatLike | None:
    return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), _READ_FLAGS[divisor])


def turn_upright(pixels: MatLike, orientation: int) -> MatLike:
    """Turn an array whose first two axes are rows and columns as an EXIF orientation says."""
    if orientation in _ROTATIONS:
        pixels = cv2.rotate(pixels, _ROTATIONS[orientation])
    if orientation in (5, 7):
        pixels = cv2.transpose(pixels)
    if orientation in _FLIPS:
        pixels = cv2.flip(pixels, _FLIPS[orientation])
    return pixels


def _prints_warnings() -> bool:
    """Tell whether this build of OpenCV prints libjpeg's warning about a cut image."""
    gradient = np.arange(64 * 64, dtype=np.uint32).astype(np.uint8).reshape(64, 64)
    _, encoded = cv2.imencode(".jpg", gradient)
    cut = encoded.tobytes()[:-16] + b"\xff\xd9"
    return run_quietly(partial(_read, cut))[1]


_PRINTS_WARNINGS = _prints_warnings()
"""Without it each jpg has to be checked, which takes 20 to 85 % of the time of decoding."""
