"""From a decoded image to the array that the model takes, as the package's steps say."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from app.imaging.resample import ByteArray, Window, resize, size_of, to_gray
from app.imaging.steps import Color, Geometry, Size, Step, color_of, geometry_of

FloatArray = npt.NDArray[np.float32]
_Operation = Callable[[ByteArray], ByteArray]


class Preprocessor:
    """The steps of a package, compiled once; safe to call from several threads at once.

    Args:
        steps: a colour, then geometry, then at most one scale and one normalisation; a
            shortest-side resize has a centre crop behind it. ``app.packages.manifest``
            checks this.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        color = color_of(steps)
        self._tables = [_table(steps, channel) for channel in range(color.channels)]
        self._reverse = color.order == "BGR"
        self._operations = _compile(steps, color)

    def fit(self, image: ByteArray) -> ByteArray:
        """Crop and resize an image to what the model sees, before scale and normalisation.

        Args:
            image: uint8 (H, W, 3), RGB.

        Returns:
            uint8 (height, width, C), RGB also for a BGR model, or one channel for GRAY; it
            may share memory with the image.

        Raises:
            ValueError: the image has another shape or type.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
        for operation in self._operations:
            image = operation(image)
        return image

    def __call__(self, image: ByteArray) -> FloatArray:
        """Turn an image into the model's input.

        Args:
            image: uint8 (H, W, 3), RGB.

        Returns:
            float32 (C, height, width), contiguous, channels in the model's order.

        Raises:
            ValueError: the image has another shape or type.
        """
        planes = list(cv2.split(self.fit(image)))
        if self._reverse:
            planes.reverse()
        result = np.empty((len(planes), *planes[0].shape), np.float32)
        for plane, table, target in zip(planes, self._tables, result, strict=True):
            # One pass from bytes to scaled floats, written where the model reads them.
            cv2.LUT(plane, table, dst=target)
        return result


def _table(steps: Sequence[Step], channel: int) -> FloatArray:
    """What each of the 256 grey levels becomes in a channel; rounded to float32 once."""
    values = [float(level) for level in range(256)]
    for step in steps:
        values = [step.map_value(value, channel) for value in values]
    return np.array(values, np.float32)


def _compile(steps: Sequence[Step], color: Color) -> list[_Operation]:
    operations: list[_Operation] = [to_gray] if color.order == "GRAY" else []
    geometry = iter(geometry_of(steps))
    for step in geometry:
        # Together with its crop, so that the part that is dropped need not be computed.
        last = next(geometry) if step.needs_crop else step
        # The pixels here are RGB for a BGR model too.
        pad = last.pad[::-1] if color.order == "BGR" else last.pad
        operations.append(partial(_resize_and_crop, step, last, pad))
    return operations


class _Centred(NamedTuple):
    """Where a centre crop starts in a side, how much it keeps, and the fill before that."""

    start: int
    kept: int
    fill_before: int


def _centre(length: int, wanted: int) -> _Centred:
    """Centre as torchvision's ``center_crop`` does.

    Half of an odd surplus is rounded half to even; of an odd lack, the larger half of the
    fill comes behind.
    """
    if wanted <= length:
        return _Centred(round((length - wanted) / 2), wanted, 0)
    return _Centred(0, length, (wanted - length) // 2)


def _resize_and_crop(
    step: Geometry, last: Geometry, pad: tuple[int, ...], image: ByteArray
) -> ByteArray:
    """Resize to what ``step`` says, then crop or fill up to what ``last`` says."""
    size = step.resized_size(size_of(image))
    target = last.output_size(size)
    rows, columns = _centre(size.height, target.height), _centre(size.width, target.width)
    window = Window(rows.start, columns.start, rows.start + rows.kept, columns.start + columns.kept)
    if step.sampling is None:
        kept = image[window.slices]
    else:
        kept = resize(image, size, step.sampling, window)
    return _place(kept, target, rows.fill_before, columns.fill_before, pad)


def _place(image: ByteArray, size: Size, top: int, left: int, pad: tuple[int, ...]) -> ByteArray:
    """Put an image on a filled rectangle, or leave it alone when it covers all of it."""
    height, width, channels = image.shape
    if (height, width) == size:
        return image
    filled = np.empty((*size, channels), np.uint8)
    filled[:] = pad
    filled[top : top + height, left : left + width] = image
    return filled
