"""Resizing with the pixels that models are trained on.

``cv2.resize`` has no antialiasing, so it differs by up to 70 grey levels from Pillow, with
which nearly every model was trained. Here ``exact`` is Pillow itself, and ``fast`` is torch's
antialiased kernel on bytes: at most 2 levels off and several times faster. torch is imported
on first use, so that tools that only check packages do not wait 2 seconds for it.

Pillow and torch resize one axis after the other and round to bytes in between, so the order
of the axes affects the pixels. Both use the order of Pillow 13 here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from app.imaging.steps import Filter, Sampling, Size

ByteArray = npt.NDArray[np.uint8]
Window = tuple[slice, slice]
"""Rows and columns of an array, as an index of it."""

_Pixels = npt.NDArray[Any]
_Kernel = Callable[[ByteArray, Size], ByteArray]

MAX_WHOLE_PIXELS = 4_194_304
"""A larger result is computed in parts when only a window of it is needed (12 MB of RGB).

The shortest side of a 15 x 4096 image scaled to 256 makes 256 x 69905 pixels.
"""

_OPENCV_FILTERS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def resize(pixels: ByteArray, size: Size, sampling: Sampling, window: Window) -> ByteArray:
    """Resize an image and cut a window out of the result.

    Args:
        pixels: uint8 (H, W, C), C 1 or 3; it may be a view with gaps between the rows.
        size: the size of the whole result; both sides at least 1.
        sampling: a combination that ``app.packages.consistency`` accepts.
        window: the part of the result to return, not empty.

    Returns:
        uint8 (window height, window width, C); it may be a view.
    """
    if sampling.filter == "nearest":
        return _nearest(pixels, size, window)
    if not sampling.antialias:
        return _plain(pixels, size, _OPENCV_FILTERS[sampling.filter], window)
    kernel = partial(_pillow if sampling.resampling == "exact" else _torch, sampling.filter)
    if _whole_is_cheap(size_of(pixels), size):
        return _resize_whole(kernel, pixels, size)[window]
    return _resize_part(kernel, pixels, size, window)


def to_gray(pixels: ByteArray) -> ByteArray:
    """Turn RGB into luma exactly as Pillow's ``convert("L")``.

    That is ``(19595 R + 38470 G + 7471 B + 32768) >> 16``, ITU-R BT.601 in 16-bit fixed
    point (Pillow, ``Convert.c``); OpenCV rounds differently.

    Args:
        pixels: uint8 (H, W, 3), RGB.

    Returns:
        uint8 (H, W, 1).
    """
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, np.newaxis]


def size_of(pixels: ByteArray) -> Size:
    """The size of an array whose first axes are rows and columns."""
    return Size(int(pixels.shape[0]), int(pixels.shape[1]))


def _whole_is_cheap(source: Size, size: Size) -> bool:
    return size.height * size.width <= max(MAX_WHOLE_PIXELS, source.height * source.width)


def _vertical_first(source: Size, size: Size) -> bool:
    """Pillow's rule since version 13: rows first when they shrink far more than columns.

    Up to version 12 columns always came first, which differs by at most 3 levels (bicubic)
    or 6 (lanczos) on photos. https://github.com/python-pillow/Pillow/pull/9549
    """
    shrinkage = source.height - size.height
    return shrinkage > 0 and shrinkage > 2 * (source.width - size.width)


def _resize_whole(kernel: _Kernel, pixels: ByteArray, size: Size) -> ByteArray:
    if _vertical_first(size_of(pixels), size):
        pixels = kernel(pixels, Size(size.height, pixels.shape[1]))
    return kernel(pixels, size)


def _resize_part(kernel: _Kernel, pixels: ByteArray, size: Size, window: Window) -> ByteArray:
    """The same pixels as the whole's, without the memory of the whole.

    Only an enlargement gets here, so columns come first; what the second pass then makes of
    one column does not depend on its neighbours.
    """
    rows, columns = window
    wide = kernel(pixels, Size(pixels.shape[0], size.width))[:, columns]
    step = max(1, MAX_WHOLE_PIXELS // size.height)
    parts = [
        kernel(part, Size(size.height, part.shape[1]))[rows]
        for part in (wide[:, start : start + step] for start in range(0, wide.shape[1], step))
    ]
    return np.concatenate(parts, axis=1)


def _pillow(filter_: Filter, pixels: ByteArray, size: Size) -> ByteArray:
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    resized = picture.resize((size.width, size.height), Image.Resampling[filter_.upper()])
    return np.asarray(resized).reshape(size.height, size.width, -1)


def _torch(filter_: Filter, pixels: ByteArray, size: Size) -> ByteArray:
    import torch

    # The kernel needs rows without gaps (numpy copies them faster than torch, and never
    # on several threads), and torch needs a writable array.
    packed = np.require(pixels, requirements=["C", "W"])
    # In this order torch sees channels last, and need not rearrange them to resize them. numpy
    # makes the views, as each operation of torch lets another thread take the GIL.
    channels_last = packed.reshape(1, *packed.shape).transpose(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(channels_last),
        size=size,
        mode=filter_,
        antialias=True,
        align_corners=False,
    )
    result: ByteArray = resized.numpy()[0].transpose(1, 2, 0)
    return result


def _plain(pixels: ByteArray, size: Size, interpolation: int, window: Window) -> ByteArray:
    """Interpolate between the 2 or 4 nearest pixels of each axis, without antialiasing.

    Pixel centres are at half coordinates and the cubic kernel has a = -0.75, in OpenCV as
    in torch and torchvision.
    """
    height, width = size_of(pixels)
    if _whole_is_cheap(Size(height, width), size):
        return _opencv(pixels, size, interpolation)[window]
    rows, columns = window
    # Floats are not rounded between the axes, so the cheaper order gives the same pixels.
    part = pixels.astype(np.float32)
    if width >= height:
        part = _opencv(part, Size(height, size.width), interpolation)[:, columns]
        part = _opencv(part, Size(size.height, part.shape[1]), interpolation)[rows]
    else:
        part = _opencv(part, Size(size.height, width), interpolation)[rows]
        part = _opencv(part, Size(part.shape[0], size.width), interpolation)[:, columns]
    return np.clip(np.rint(part), 0, 255).astype(np.uint8)


def _opencv(pixels: _Pixels, size: Size, interpolation: int) -> _Pixels:
    resized = cv2.resize(pixels, (size.width, size.height), interpolation=interpolation)
    # OpenCV drops the axis of a single channel.
    return cast(_Pixels, resized.reshape(size.height, size.width, -1))


def _nearest(pixels: ByteArray, size: Size, window: Window) -> ByteArray:
    """Pick the pixels that Pillow's NEAREST picks, without touching any other."""
    rows = _nearest_indices(pixels.shape[0], size.height)[window[0]]
    columns = _nearest_indices(pixels.shape[1], size.width)[window[1]]
    return pixels[rows[:, np.newaxis], columns]


def _nearest_indices(length: int, resized_length: int) -> npt.NDArray[np.intp]:
    """Truncate centres that are summed up one by one, as Pillow's ``Geometry.c`` does."""
    step = length / resized_length
    centres = np.full(resized_length, step)
    centres[0] = step * 0.5
    return np.cumsum(centres).astype(np.intp)
