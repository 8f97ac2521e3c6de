"""The steps of a preprocessing as values: what each does to a size and to a pixel value.

Every size is rounded as in the library whose semantics the step has, because one pixel of
crop is enough to move a score; ``docs/package.md`` describes each step.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, Self

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]
ColorOrder = Literal["RGB", "BGR", "GRAY"]
Resampling = Literal["fast", "exact"]
Rounding = Literal["half_even", "floor"]


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
        resampling: ``exact`` is bit-identical to Pillow, ``fast`` differs by at most 2 of 255
            levels.
    """

    filter: Filter
    antialias: bool
    resampling: Resampling


class Step:
    """One step; every subclass is a frozen dataclass.

    Attributes:
        rank: the steps of a preprocessing are in ascending rank.
        channel_fields: the fields that hold one number for each channel.
    """

    rank: ClassVar[int]
    channel_fields: ClassVar[tuple[str, ...]] = ()

    def map_value(self, value: float, channel: int) -> float:
        """What a pixel value of a channel becomes; it stays the same by default."""
        return value


@dataclass(frozen=True)
class Color(Step):
    """The channels that the model sees, in its order."""

    rank = 0
    order: ColorOrder

    @property
    def channels(self) -> int:
        """The number of channels."""
        return 1 if self.order == "GRAY" else 3


class Geometry(Step):
    """A crop or a resize.

    Attributes:
        sampling: how it resizes; None for a crop.
        pad: one number for each channel, which fill the area around the image; often empty.
        needs_crop: whether a crop must follow.
        rounding: of half of an odd surplus of a crop: half to even, as in torchvision, or down,
            as in transformers and fastai.
    """

    rank = 1
    needs_crop: ClassVar[bool] = False
    sampling: Sampling | None
    pad: tuple[int, ...]
    rounding: Rounding = "half_even"

    def output_size(self, size: Size) -> Size:
        """The size after the step."""
        raise NotImplementedError

    def resized_size(self, size: Size) -> Size:
        """The size of the image itself after the step, without fill; a crop does not resize."""
        return size if self.sampling is None else self.output_size(size)

    def kept_resolution(self, size: Size) -> float | None:
        """The fraction of the resolution that is kept, of the axis that shrinks least.

        None for a crop that is the same part of an image of any resolution.
        """
        resized = self.resized_size(size)
        return max(resized.height / size.height, resized.width / size.width)

    def with_sampling(self, sampling: Sampling) -> Self:
        """The same step with another sampling; a crop stays the same."""
        if self.sampling is None:
            return self
        return replace(self, sampling=sampling)  # type: ignore[type-var]  # see Step


@dataclass(frozen=True)
class CenterCropFraction(Geometry):
    """A centred square whose side is a fraction, at most 1, of the shortest side."""

    sampling, pad = None, ()
    fraction: float
    rounding: Rounding = "half_even"

    def output_size(self, size: Size) -> Size:
        """The truncated side, as ``int(224 / 256 * shortest)`` of EfficientNet's input code."""
        side = max(1, int(self.fraction * min(size)))
        return Size(side, side)

    def kept_resolution(self, size: Size) -> None:
        """None; see Geometry."""


@dataclass(frozen=True)
class _FixedSize(Geometry):
    height: int
    width: int

    def output_size(self, size: Size) -> Size:
        return Size(self.height, self.width)


@dataclass(frozen=True)
class CenterCrop(_FixedSize):
    """A centred rectangle, filled up with ``pad`` where the image is smaller."""

    channel_fields = ("pad",)
    sampling = None
    pad: tuple[int, ...]
    rounding: Rounding = "half_even"


@dataclass(frozen=True)
class ResizeShortestSide(Geometry):
    """The shortest side becomes ``size``; the aspect ratio is kept."""

    # Without a crop the long side of a slim image would fill the memory.
    needs_crop = True
    pad = ()
    size: int
    sampling: Sampling

    def output_size(self, size: Size) -> Size:
        """The long side is truncated, as torchvision's ``Resize(int)`` does."""
        if size.width <= size.height:
            return Size(int(self.size * size.height / size.width), self.size)
        return Size(self.size, int(self.size * size.width / size.height))


@dataclass(frozen=True)
class ResizeExact(_FixedSize):
    """Both sides as given; the aspect ratio is lost."""

    pad = ()
    sampling: Sampling


@dataclass(frozen=True)
class ResizeKeepRatio(Geometry):
    """As large as fits into a rectangle (contain), or as small as covers it (cover).

    The rectangle may be as large as that of the crop that follows, or larger.
    """

    needs_crop = True
    pad = ()
    height: int
    width: int
    covers: bool
    sampling: Sampling

    def output_size(self, size: Size) -> Size:
        """Both sides are rounded half to even, as timm's ``ResizeKeepRatio`` does."""
        ratios = (size.height / self.height, size.width / self.width)
        ratio = min(ratios) if self.covers else max(ratios)
        return Size(max(1, round(size.height / ratio)), max(1, round(size.width / ratio)))


@dataclass(frozen=True)
class ResizeLetterbox(_FixedSize):
    """The whole image, as large as fits, centred on a rectangle of ``pad``."""

    channel_fields = ("pad",)
    pad: tuple[int, ...]
    sampling: Sampling

    def resized_size(self, size: Size) -> Size:
        """The image's size in the rectangle, rounded half to even, at least one pixel."""
        ratio = min(self.height / size.height, self.width / size.width)
        return Size(max(1, round(size.height * ratio)), max(1, round(size.width * ratio)))


@dataclass(frozen=True)
class Scale(Step):
    """``value * multiply + add`` on grey levels 0 to 255."""

    rank = 2
    multiply: float
    add: float

    def map_value(self, value: float, channel: int) -> float:
        """The scaled value, the same for every channel."""
        return value * self.multiply + self.add


@dataclass(frozen=True)
class Normalize(Step):
    """``(value - mean) / std``, one of each for a channel, in the colour order."""

    rank = 3
    channel_fields = ("mean", "std")
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def map_value(self, value: float, channel: int) -> float:
        """The normalised value."""
        return (value - self.mean[channel]) / self.std[channel]


def color_of(steps: Iterable[Step]) -> Color:
    """The colour step; there must be one."""
    return next(step for step in steps if isinstance(step, Color))


def geometry_of(steps: Iterable[Step]) -> tuple[Geometry, ...]:
    """The crops and resizes."""
    return tuple(step for step in steps if isinstance(step, Geometry))


def fixed_output_size(steps: Iterable[Step]) -> Size | None:
    """The size that every image ends in, or None when it depends on the image."""
    return next(reversed(fixed_sizes(steps)), None)


def fixed_sizes(steps: Iterable[Step]) -> list[Size | None]:
    """The size of every image after each step of the geometry; None where it depends on it."""
    sizes: list[Size | None] = []
    size: Size | None = None
    for step in geometry_of(steps):
        if isinstance(step, _FixedSize):
            size = Size(step.height, step.width)
        elif size is not None:
            size = step.output_size(size)
        sizes.append(size)
    return sizes
