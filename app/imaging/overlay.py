"""A heat map drawn over its image, for people."""

import cv2
import numpy as np
from numpy.typing import NDArray

from app.imaging.decode import decode
from app.imaging.encode import encode_png
from app.imaging.guard import guard

OPACITY = 0.7
"""Of the hottest part; the coldest is the image itself."""


def draw_heat(image_bytes: bytes, heat: NDArray[np.float64]) -> bytes:
    """Draw a heat map over an image file.

    Args:
        image_bytes: the whole file.
        heat: float64 (rows, columns), 0 to 1, of the whole upright image.

    Returns:
        A png of the size of the upright image.

    Raises:
        ApiError: see guard and decode.
    """
    header, image_bytes = guard(image_bytes)
    pixels = decode(header, image_bytes)
    height, width = pixels.shape[:2]
    smooth = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR).clip(0, 1)
    colours = cv2.applyColorMap((smooth * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    opacity = OPACITY * smooth[:, :, np.newaxis]
    drawn = pixels * (1 - opacity) + cv2.cvtColor(colours, cv2.COLOR_BGR2RGB) * opacity
    return encode_png(drawn.astype(np.uint8))
