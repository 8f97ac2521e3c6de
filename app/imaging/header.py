"""What the header of an image file says, and the sizes the service takes."""

from dataclasses import dataclass
from typing import Literal

from app.errors import InvalidImageSize

MIN_SIDE_PX = 15
MAX_SIDE_PX = 4096
"""Limits of the shortest and of the longest side, from the request table of the API.

They are the same for width and height, so the EXIF orientation, which may swap the two, has
no bearing on them.
"""


@dataclass(frozen=True)
class ImageHeader:
    """What was read from a file before any pixel was decoded.

    Attributes:
        format: the format that the first bytes name.
        width: pixels per stored row, before the EXIF orientation.
        height: stored rows, before the EXIF orientation.
    """

    format: Literal["jpg", "png", "bmp"]
    width: int
    height: int

    @property
    def description(self) -> str:
        """Format and size for people, such as ``jpg 640x480``."""
        return f"{self.format} {self.width}x{self.height}"


def check_size(width: int, height: int) -> None:
    """Refuse a size outside MIN_SIDE_PX to MAX_SIDE_PX.

    Args:
        width: in pixels.
        height: in pixels.

    Raises:
        InvalidImageSize: one of the two is too small or too large.
    """
    for side_px, adjective in ((width, "wide"), (height, "high")):
        if side_px < MIN_SIDE_PX:
            raise InvalidImageSize(f"{side_px} px {adjective}, at least {MIN_SIDE_PX} wanted")
        if side_px > MAX_SIDE_PX:
            raise InvalidImageSize(f"{side_px} px {adjective}, at most {MAX_SIDE_PX} allowed")
