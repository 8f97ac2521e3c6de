"""BMP images of 16 bits per pixel: OpenCV refuses some, and rounds otherwise than Pillow."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from app.imaging.guard_bmp import read_bitmap


def decode_bmp16(data: bytes) -> NDArray[np.uint8] | None:
    """Decode a BMP file that ``guard`` accepted, if it has 16 bits per pixel.

    Args:
        data: the file.

    Returns:
        uint8 (height, width, 3), RGB, with 5 and 6 bits stretched to 0 to 255 and rounded down;
        None for another depth.
    """
    bitmap = read_bitmap(data)
    if bitmap.depth != 16:
        return None
    stride = bitmap.row_bytes // 2
    count = stride * bitmap.height
    rows = np.frombuffer(data, "<u2", count, bitmap.pixels_offset).reshape(-1, stride)
    if bitmap.is_bottom_up:
        rows = rows[::-1]
    return np.take(_levels(bitmap.masks(data)), rows[:, : bitmap.width], axis=0)


@cache
def _levels(masks: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The levels of every pixel value, (65536, 3)."""
    values = np.arange(1 << 16)
    channels = []
    for mask in masks:
        low_bit = mask & -mask
        channels.append((values & mask) // low_bit * 255 // (mask // low_bit))
    return np.stack(channels, axis=1).astype(np.uint8)
