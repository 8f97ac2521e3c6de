"""The steps of a preprocessing as values: what they are and which sizes they give.

The rounding of every size is that of the library whose semantics the step has, because one
pixel of crop is enough to move a score; ``docs/package.md`` states each in words.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]
ColorOrder = Literal["RGB", "BGR", "GRAY"]
Resampling = Literal["fast", "exact"]


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


@dataclass(frozen=True)
class Sampling:
    """How a resize computes its pixels.

    Attributes:
        filter: the interpolation kernel.
        antialias: whether the kernel is widened when shrinking, as Pillow does.
        resampling: ``exact`` is Pillow's arithmetic to the bit, ``fast`` at most 2 of 255
            levels off.
    """

    filter: Filter
    antialias: bool
    resampling: Resampling


@dataclass(frozen=True)
class Color:
    """The channels that the model sees, in its order."""

    order: ColorOrder

    @property
    def channels(self) -> int:
        """How many channels the order has."""
        return 1 if self.order == "GRAY" else 3


@dataclass(frozen=True)
class CenterCropFraction:
    """A centred square whose side is a fraction, at most 1, of the shortest side."""

    fraction: float

    def output_size(self, size: Size) -> Size:
        """The truncated side, as ``int(224 / 256 * shortest)`` of EfficientNet's input code."""
        side = max(1, int(self.fraction * min(size)))
        return Size(side, side)


@dataclass(frozen=True)
class CenterCrop:
    """A centred rectangle, filled up with ``pad`` where the image is smaller."""

    height: int
    width: int
    pad: tuple[int, ...]

    def output_size(self, size: Size) -> Size:
        """The rectangle's size, whatever the image's."""
        return Size(self.height, self.width)


@dataclass(frozen=True)
class ResizeShortestSide:
    """The shortest side becomes ``size``; the other keeps the proportions."""

    size: int
    sampling: Sampling

    def output_size(self, size: Size) -> Size:
        """The long side is truncated, as torchvision's ``Resize(int)`` does."""
        if size.width <= size.height:
            return Size(int(self.size * size.height / size.width), self.size)
        return Size(self.size, int(self.size * size.width / size.height))


@dataclass(frozen=True)
class ResizeExact:
    """Both sides as given; the proportions are lost."""

    height: int
    width: int
    sampling: Sampling


@dataclass(frozen=True)
class ResizeLetterbox:
    """The whole image, as large as fits, centred on a rectangle of ``pad``."""

    height: int
    width: int
    pad: tuple[int, ...]
    sampling: Sampling

    def inner_size(self, size: Size) -> Size:
        """The image's size in the rectangle, rounded half to even, at least one pixel."""
        ratio = min(self.height / size.height, self.width / size.width)
        return Size(max(1, round(size.height * ratio)), max(1, round(size.width * ratio)))


@dataclass(frozen=True)
class Scale:
    """``value * multiply + add`` on grey levels 0 to 255."""

    multiply: float
    add: float


@dataclass(frozen=True)
class Normalize:
    """``(value - mean) / std``, one of each for a channel, in the colour order."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


Geometry = CenterCropFraction | CenterCrop | ResizeShortestSide | ResizeExact | ResizeLetterbox
Step = Color | Geometry | Scale | Normalize


def fixed_output_size(geometry: tuple[Geometry, ...]) -> Size | None:
    """The size that every image ends in, or None when it depends on the image."""
    size: Size | None = None
    for step in geometry:
        if isinstance(step, CenterCrop | ResizeExact | ResizeLetterbox):
            size = Size(step.height, step.width)
        elif size is not None:
            size = step.output_size(size)
    return size
