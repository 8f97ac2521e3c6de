"""How much smaller than it is a jpg may be decoded."""

from collections.abc import Sequence
from typing import get_args

from app.imaging.decode import Reduction
from app.imaging.header import ImageHeader
from app.imaging.steps import Size, Step, geometry_of

SPARE = 2
"""What is left for the antialiased resize to shrink: with less, the decoder's own averaging
of 8 x 8 blocks would show in the model's input."""


def largest_reduction(steps: Sequence[Step], header: ImageHeader) -> Reduction:
    """Find the largest reduction that leaves at least SPARE times the pixels that are needed.

    The EXIF orientation is not known here, so both ways round must have enough.

    Args:
        steps: the package's preprocessing.
        header: the image's size; only a jpg can be reduced.
    """
    if header.format != "jpg":
        return 1
    sizes = (Size(header.height, header.width), Size(header.width, header.height))
    needed = max(shrinkage_limit(steps, size) for size in sizes)
    fitting = [divisor for divisor in get_args(Reduction) if divisor * SPARE * needed <= 1]
    return max(fitting, default=1)


def shrinkage_limit(steps: Sequence[Step], size: Size) -> float:
    """Say which fraction of an image's resolution its first resize keeps.

    Args:
        steps: the package's preprocessing.
        size: the decoded image's.

    Returns:
        The resized side divided by the side before, of the axis that shrinks least; 1 where
        pixels are used as they are, and for a crop by pixels before any resize, which would
        cut another part out of a smaller image.
    """
    for step in geometry_of(steps):
        kept = step.kept_resolution(size)
        if kept is not None:
            return kept
        size = step.output_size(size)
    return 1.0
