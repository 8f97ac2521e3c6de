"""Resizing with the pixels that models are trained on.

``cv2.resize`` has no antialiasing, so it differs from Pillow, which nearly every model was
trained with, by up to 70 grey levels. Here ``exact`` is Pillow itself and ``fast`` torch's
antialiased kernel on bytes, at most 2 levels off and several times faster. torch is needed
by this module alone outside ``app.inference`` and the package builder; it is imported on
first use, so that the tools that only check packages start without its two seconds.

Pillow and torch resize one axis after the other and round to bytes in between, so the order
of the axes shows in the pixels. It is fixed here, for both, to that of Pillow 13.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from app.imaging.steps import Sampling, Size

ByteArray = npt.NDArray[np.uint8]
_Pixels = npt.NDArray[Any]
_Engine = Callable[[ByteArray, Size], ByteArray]

MAX_WHOLE_PIXELS = 4_194_304
"""A larger result is computed in parts when only a window of it is wanted (12 MB of RGB).

The shortest side of a 15 x 4096 image scaled to 256 makes 256 x 69905 pixels.
"""

_PILLOW_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_OPENCV_FILTERS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


class Window(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, the ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window as an index of an array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def resize(image: ByteArray, size: Size, sampling: Sampling, window: Window) -> ByteArray:
    """Resize an image and cut a window out of the result.

    Args:
        image: uint8 (H, W, C), C 1 or 3; it may be a view with gaps between the rows.
        size: the whole result's size; both sides at least 1.
        sampling: a combination that ``app.packages.manifest`` accepts.
        window: the part of the result that is returned, not empty.

    Returns:
        uint8 (window height, window width, C); it may be a view.
    """
    if sampling.filter == "nearest":
        return _nearest(image, size, window)
    if not sampling.antialias:
        return _plain(image, size, _OPENCV_FILTERS[sampling.filter], window)
    engine = _pillow(sampling) if sampling.resampling == "exact" else _torch(sampling)
    if _whole_is_cheap(size_of(image), size):
        return _resize_whole(engine, image, size)[window.slices]
    return _resize_part(engine, image, size, window)


def to_gray(image: ByteArray) -> ByteArray:
    """Turn RGB into luma exactly as Pillow's ``convert("L")``.

    That is ``(19595 R + 38470 G + 7471 B + 32768) >> 16``, ITU-R BT.601 in 16-bit fixed
    point (Pillow, ``Convert.c``); OpenCV's is another rounding.

    Args:
        image: uint8 (H, W, 3), RGB.

    Returns:
        uint8 (H, W, 1).
    """
    return np.asarray(Image.fromarray(image).convert("L"))[:, :, np.newaxis]


def size_of(image: ByteArray) -> Size:
    """The size of an array whose first axes are rows and columns."""
    return Size(int(image.shape[0]), int(image.shape[1]))


def _whole_is_cheap(source: Size, size: Size) -> bool:
    return size.height * size.width <= max(MAX_WHOLE_PIXELS, source.height * source.width)


def _vertical_first(source: Size, size: Size) -> bool:
    """Pillow's rule since version 13: rows first when they shrink far more than columns.

    Up to version 12 columns always came first, which differs by at most 3 levels (bicubic)
    or 6 (lanczos) on photos. https://github.com/python-pillow/Pillow/pull/9549
    """
    shrinkage = source.height - size.height
    return shrinkage > 0 and shrinkage > 2 * (source.width - size.width)


def _resize_whole(engine: _Engine, image: ByteArray, size: Size) -> ByteArray:
    if _vertical_first(size_of(image), size):
        image = engine(image, Size(size.height, image.shape[1]))
    return engine(image, size)


def _resize_part(engine: _Engine, image: ByteArray, size: Size, window: Window) -> ByteArray:
    """The same pixels as the whole's, without the memory of the whole.

    Only an enlargement comes here, so columns go first; what the rows' pass then makes of
    one column does not depend on its neighbours.
    """
    columns = engine(image, Size(image.shape[0], size.width))[:, window.left : window.right]
    step = max(1, MAX_WHOLE_PIXELS // size.height)
    parts = [
        engine(part, Size(size.height, part.shape[1]))[window.top : window.bottom]
        for part in (columns[:, at : at + step] for at in range(0, columns.shape[1], step))
    ]
    return np.concatenate(parts, axis=1)


def _pillow(sampling: Sampling) -> _Engine:
    resample = _PILLOW_FILTERS[sampling.filter]

    def engine(image: ByteArray, size: Size) -> ByteArray:
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        resized = np.asarray(picture.resize((size.width, size.height), resample))
        return resized.reshape(size.height, size.width, -1)

    return engine


def _torch(sampling: Sampling) -> _Engine:
    import torch

    def engine(image: ByteArray, size: Size) -> ByteArray:
        # The kernel wants rows without gaps (numpy copies them faster than torch, and never
        # on several threads) and torch wants an array that it could write to.
        packed = np.require(image, requirements=["C", "W"])
        # In this order torch sees channels last, and need not rearrange them to resize them.
        pixels = torch.from_numpy(packed).unsqueeze(0).permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(
            pixels, size=size, mode=sampling.filter, antialias=True, align_corners=False
        )
        channels_last: ByteArray = resized[0].permute(1, 2, 0).numpy()
        return channels_last

    return engine


def _plain(image: ByteArray, size: Size, interpolation: int, window: Window) -> ByteArray:
    """Interpolate between the 2 or 4 nearest pixels of each axis, without antialiasing.

    Pixel centres are at half coordinates and the cubic kernel has a = -0.75, in OpenCV as
    in torch and torchvision.
    """
    rows, columns = window.slices
    if _whole_is_cheap(size_of(image), size):
        return _opencv(image, size, interpolation)[rows, columns]
    # As in one go nothing is rounded in between, so the axes may go in the cheaper order.
    height, width = size_of(image)
    part = image.astype(np.float32)
    if width >= height:
        part = _opencv(part, Size(height, size.width), interpolation)[:, columns]
        part = _opencv(part, Size(size.height, part.shape[1]), interpolation)[rows]
    else:
        part = _opencv(part, Size(size.height, width), interpolation)[rows]
        part = _opencv(part, Size(part.shape[0], size.width), interpolation)[:, columns]
    return np.clip(np.rint(part), 0, 255).astype(np.uint8)


def _opencv(image: _Pixels, size: Size, interpolation: int) -> _Pixels:
    resized = cv2.resize(image, (size.width, size.height), interpolation=interpolation)
    # OpenCV drops the axis of a single channel.
    return cast(_Pixels, resized.reshape(size.height, size.width, -1))


def _nearest(image: ByteArray, size: Size, window: Window) -> ByteArray:
    """Pick the pixels that Pillow's NEAREST picks, without touching any other."""
    rows = _nearest_indices(image.shape[0], size.height)[window.top : window.bottom]
    columns = _nearest_indices(image.shape[1], size.width)[window.left : window.right]
    return image[rows[:, np.newaxis], columns]


def _nearest_indices(length: int, resized_length: int) -> npt.NDArray[np.intp]:
    """Truncate centres that are summed up one by one, as Pillow's ``Geometry.c`` does."""
    step = length / resized_length
    centres = np.full(resized_length, step)
    centres[0] = step * 0.5
    return np.cumsum(centres).astype(np.intp)
