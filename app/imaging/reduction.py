"""The smallest size at which a jpg may be decoded."""

from collections.abc import Sequence
from typing import get_args

from app.imaging.decode import Reduction
from app.imaging.header import ImageHeader
from app.imaging.steps import Size, Step, geometry_of

MIN_OVERSAMPLING = 2
"""The decoded side over the resized side: with less, the decoder's averaging of 8 x 8 blocks
would affect the model's input."""


def largest_reduction(steps: Sequence[Step], header: ImageHeader) -> Reduction:
    """Find the largest reduction that leaves MIN_OVERSAMPLING times the pixels that are needed.

    Args:
        steps: the package's preprocessing.
        header: the image's size; only a jpg can be reduced.
    """
    if header.format != "jpg":
        return 1
    # The EXIF orientation may swap the sides, so there must be enough pixels both ways.
    sizes = (Size(header.height, header.width), Size(header.width, header.height))
    needed = max(_kept_resolution(steps, size) for size in sizes)
    fitting = [
        divisor for divisor in get_args(Reduction) if divisor * MIN_OVERSAMPLING * needed <= 1
    ]
    return max(fitting, default=1)


def _kept_resolution(steps: Sequence[Step], size: Size) -> float:
    """The fraction of an image's resolution that its first resize keeps; 1 without a resize."""
    for step in geometry_of(steps):
        kept = step.kept_resolution(size)
        if kept is not None:
            return kept
        size = step.output_size(size)
    return 1.0
