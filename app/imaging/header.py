"""The header of an image file, and the sizes that the service accepts."""

from dataclasses import dataclass, field
from typing import Literal

from app.errors import InvalidImageSize

MIN_SIDE_PX = 15
MAX_SIDE_PX = 4096
"""Limits of the shortest and of the longest side, from the request table of the API.

They are the same for width and height, which the EXIF orientation may swap.
"""

COSTLY_PX = 4_000_000
"""About 10 ms of decoding: as long as two inferences of the demo model."""

OrientationRule = Literal["exif", "ignore"]
"""Whether the orientation in a file's metadata is applied, as in a package's manifest."""


@dataclass(frozen=True)
class ImageHeader:
    """What a file says about its image before any pixel is decoded.

    Attributes:
        format: from the first bytes.
        width: pixels per stored row, before the EXIF orientation.
        height: stored rows, before the EXIF orientation.
        orientation: the EXIF orientation, 1 (upright) to 8; see ``read_orientation``.
        cost_px: how many pixels of a baseline jpg take about as long to decode.
    """

    format: Literal["jpg", "png", "bmp"]
    width: int
    height: int
    orientation: int = 1
    cost_px: int = field(default=0, compare=False)

    @property
    def is_costly(self) -> bool:
        """Whether decoding it takes long, so that others must not wait for it."""
        return self.cost_px > COSTLY_PX

    @property
    def description(self) -> str:
        """Format and size, such as ``jpg 640x480``."""
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
