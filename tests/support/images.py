"""Image files for requests."""

import base64
import io
from pathlib import Path

from PIL import Image

PHOTOS = Path(__file__).resolve().parent.parent / "photos"


def solid(
    colour: tuple[int, int, int], size: tuple[int, int] = (64, 48), kind: str = "PNG"
) -> bytes:
    """Encode an image of one colour; size is (width, height)."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def to_base64(data: bytes) -> str:
    """Encode an image file as clients do."""
    return base64.b64encode(data).decode("ascii")


RED = to_base64(solid((250, 10, 10)))
GREEN = to_base64(solid((10, 250, 10)))
BLUE = to_base64(solid((10, 10, 250)))
WHITE = to_base64(solid((255, 255, 255)))
