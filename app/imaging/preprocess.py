"""From decoded pixels to the array that the model takes, as the package's steps say."""

from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from app.imaging.resample import ByteArray, resize, size_of, to_gray
from app.imaging.steps import (
    Color,
    Geometry,
    Rounding,
    Size,
    Step,
    color_of,
    geometry_of,
)

FloatArray = npt.NDArray[np.float32]
Span = tuple[float, float]
"""Where something begins and ends along an axis, in px."""

_Operation = Callable[[ByteArray], ByteArray]


class Preprocessor:
    """The compiled steps of a package; thread-safe.

    Args:
        steps: a colour, then geometry, then at most one scale and one normalisation; a
            shortest-side resize has a centre crop after it. ``app.packages.consistency``
            checks this.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        color = color_of(steps)
        self._tables = [_table(steps, channel) for channel in range(color.channels)]
        self._reverse = color.order == "BGR"
        self._operations = _compile(steps, color)

    def fit(self, pixels: ByteArray) -> ByteArray:
        """Crop and resize an image to what the model sees, before scale and normalisation.

        Args:
            pixels: uint8 (H, W, 3), RGB.

        Returns:
            uint8 (height, width, C), RGB even for a BGR model, or one channel for GRAY; it
            may share memory with the argument.

        Raises:
            ValueError: the array has another shape or type.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"expected uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
        for operation in self._operations:
            pixels = operation(pixels)
        return pixels

    def __call__(self, pixels: ByteArray) -> FloatArray:
        """Turn an image into the model's input; see fit for the argument.

        Returns:
            float32 (C, height, width), contiguous, channels in the model's order.
        """
        planes = list(cv2.split(self.fit(pixels)))
        if self._reverse:
            planes.reverse()
        model_input = np.empty((len(planes), *planes[0].shape), np.float32)
        for plane, table, target in zip(planes, self._tables, model_input, strict=True):
            # One pass from bytes to scaled floats, written where the model reads them.
            cv2.LUT(plane, table, dst=target)
        return model_input


def locate_image(steps: Sequence[Step], size: Size) -> tuple[Span, Span]:
    """Find where an image lies in the model's input.

    Args:
        steps: see Preprocessor.
        size: of the image.

    Returns:
        Rows and columns of the input where the whole image begins and ends. They exceed the
        input where a crop removes parts of the image.
    """
    spans: list[Span] = [(0.0, float(side)) for side in size]
    for step in geometry_of(steps):
        resized = step.resized_size(size)
        target = step.output_size(resized)
        for axis, (start, end) in enumerate(spans):
            ratio = resized[axis] / size[axis]
            kept, fill = _centre(resized[axis], target[axis], step.rounding)
            offset = fill - kept.start
            spans[axis] = (start * ratio + offset, end * ratio + offset)
        size = target
    rows, columns = spans
    return rows, columns


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
        # In one operation with its crop, so that cropped pixels are never computed.
        last = next(geometry) if step.needs_crop else step
        # The pixels are RGB here, even for a BGR model.
        pad = last.pad[::-1] if color.order == "BGR" else last.pad
        operations.append(partial(_resize_and_crop, step, last, pad))
    return operations


def _resize_and_crop(
    step: Geometry, last: Geometry, pad: tuple[int, ...], pixels: ByteArray
) -> ByteArray:
    """Resize to the size of ``step``, then crop or fill to that of ``last``."""
    size = step.resized_size(size_of(pixels))
    target = last.output_size(size)
    (rows, top), (columns, left) = (
        _centre(*sides, last.rounding) for sides in zip(size, target, strict=True)
    )
    if step.sampling is None:
        pixels = pixels[rows, columns]
    else:
        pixels = resize(pixels, size, step.sampling, (rows, columns))
    return _place(pixels, target, top, left, pad)


def _centre(length: int, target: int, rounding: Rounding) -> tuple[slice, int]:
    """The part of a side that a centre crop keeps, and the fill before it.

    Where an odd number of pixels is missing, the larger half of the fill comes after, as in
    torchvision and transformers.
    """
    if target > length:
        return slice(0, length), (target - length) // 2
    surplus = length - target
    start = surplus // 2 if rounding == "floor" else round(surplus / 2)
    return slice(start, start + target), 0


def _place(pixels: ByteArray, size: Size, top: int, left: int, pad: tuple[int, ...]) -> ByteArray:
    """Put an image on a filled rectangle, or return it when it covers the rectangle."""
    height, width, channels = pixels.shape
    if (height, width) == size:
        return pixels
    filled = np.empty((*size, channels), np.uint8)
    filled[:] = pad
    filled[top : top + height, left : left + width] = pixels
    return filled
