"""What a schema cannot say: whether the steps of a preprocessing fit together."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.imaging.steps import (
    CenterCrop,
    CenterCropFraction,
    Color,
    Geometry,
    Normalize,
    ResizeExact,
    ResizeLetterbox,
    ResizeShortestSide,
    Sampling,
    Scale,
    Step,
    fixed_output_size,
)


class Contradiction(NamedTuple):
    """The field at fault, and what was found and expected."""

    field: str
    problem: str


def find_contradiction(
    steps: Sequence[Step], height: int, width: int, channels: int
) -> Contradiction | None:
    """Find the first reason why the steps cannot make the model's input.

    Args:
        steps: as the manifest lists them.
        height: of the model's input, in pixels.
        width: of the model's input, in pixels.
        channels: of the model's input.
    """
    checks = (
        _wrong_order(steps),
        _wrong_channels(steps, channels),
        _wrong_sampling(steps),
        _uncropped(steps),
        _wrong_size(steps, height, width),
    )
    return next((found for check in checks for found in check), None)


def _wrong_order(steps: Sequence[Step]) -> Iterator[Contradiction]:
    expected = "expected one color, then center_crop and resize steps, then scale, then normalize"
    ranks = [_rank(step) for step in steps]
    for index, rank in enumerate(ranks):
        before = ranks[index - 1] if index else -1
        if rank < before or (rank == before and rank != 1) or (index == 0 and rank != 0):
            yield Contradiction(f"preprocess[{index}].step", f"out of order; {expected}")


def _rank(step: Step) -> int:
    if isinstance(step, Color):
        return 0
    if isinstance(step, Geometry):
        return 1
    return 2 if isinstance(step, Scale) else 3


def _wrong_channels(steps: Sequence[Step], channels: int) -> Iterator[Contradiction]:
    color = next(step for step in steps if isinstance(step, Color))
    if color.channels != channels:
        yield Contradiction(
            "input.channels", f"found {channels}, expected {color.channels} for {color.order}"
        )
    for index, step in enumerate(steps):
        for field, values in _channel_values(step):
            if len(values) != color.channels:
                yield Contradiction(
                    f"preprocess[{index}].{field}",
                    f"found {len(values)} numbers, expected {color.channels} for {color.order}",
                )


def _channel_values(step: Step) -> Iterator[tuple[str, tuple[float, ...]]]:
    if isinstance(step, CenterCrop | ResizeLetterbox):
        yield "pad", step.pad
    elif isinstance(step, Normalize):
        yield "mean", step.mean
        yield "std", step.std


def _wrong_sampling(steps: Sequence[Step]) -> Iterator[Contradiction]:
    for index, step in enumerate(steps):
        if isinstance(step, ResizeShortestSide | ResizeExact | ResizeLetterbox):
            field, problem = _sampling_problem(step.sampling)
            if problem:
                yield Contradiction(f"preprocess[{index}].{field}", problem)


def _sampling_problem(sampling: Sampling) -> tuple[str, str]:
    if sampling.filter == "nearest":
        wrong = sampling.antialias
        return ("antialias", "expected false: nearest has no antialiasing") if wrong else ("", "")
    if sampling.filter == "lanczos" and sampling.resampling == "fast":
        return "resampling", 'expected "exact": lanczos has no fast form'
    if not sampling.antialias and sampling.filter == "lanczos":
        return "antialias", "expected true: lanczos without antialiasing does not exist"
    if not sampling.antialias and sampling.resampling == "exact":
        return "resampling", 'expected "fast": Pillow, the exact form, always antialiases'
    return "", ""


def _uncropped(steps: Sequence[Step]) -> Iterator[Contradiction]:
    for index, step in enumerate(steps):
        behind = steps[index + 1] if index + 1 < len(steps) else None
        cropped = isinstance(behind, CenterCrop | CenterCropFraction)
        if isinstance(step, ResizeShortestSide) and not cropped:
            # The long side of a slim image would otherwise fill the memory.
            yield Contradiction(
                f"preprocess[{index}].mode", "expected a center_crop right behind shortest_side"
            )


def _wrong_size(steps: Sequence[Step], height: int, width: int) -> Iterator[Contradiction]:
    size = fixed_output_size(tuple(step for step in steps if isinstance(step, Geometry)))
    if size is None:
        yield Contradiction(
            "preprocess",
            "the steps end in a size that depends on the image; expected a center_crop with "
            "height and width, or a resize with mode exact or letterbox",
        )
    elif size != (height, width):
        yield Contradiction(
            "preprocess",
            f"the steps end in {size.height} x {size.width} (height x width), "
            f"expected the input's {height} x {width}",
        )
