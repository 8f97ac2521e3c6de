"""Encoding of pixels for a browser."""

import cv2
import numpy as np
from numpy.typing import NDArray


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an image as png.

    Args:
        pixels: uint8 (H, W, 3), RGB, or (H, W, 1), grey.
    """
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.shape[2] == 3 else pixels
    _, data = cv2.imencode(".png", stored)
    return data.tobytes()
