"""Pixels to a file that a browser shows."""

import cv2
import numpy as np
from numpy.typing import NDArray


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Write an image as png, without loss.

    Args:
        image: uint8 (H, W, 3), RGB, or (H, W, 1), grey.
    """
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[2] == 3 else image
    _, data = cv2.imencode(".png", pixels)
    return data.tobytes()
