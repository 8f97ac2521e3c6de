"""Whether the steps of a preprocessing fit together, which a JSON schema cannot express."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.imaging.steps import (
    Sampling,
    Step,
    color_of,
    fixed_output_size,
    fixed_sizes,
    geometry_of,
)

MAX_SIDE = 16_384
"""Pixels of a side between two steps: a strip of 2048 x 1 px, resized by its shortest side, would
have millions."""


class Contradiction(NamedTuple):
    """The wrong field, and what was found and expected."""

    field: str
    problem: str


def find_contradiction(
    steps: Sequence[Step], height: int, width: int, channels: int
) -> Contradiction | None:
    """Find the first reason why the steps cannot make the model's input.

    Args:
        steps: in the order of the manifest.
        height: of the model's input, in pixels.
        width: of the model's input, in pixels.
        channels: of the model's input.
    """
    # Each check relies on those before it.
    checks = (
        _wrong_order(steps),
        _wrong_channels(steps, channels),
        _wrong_sampling(steps),
        _uncropped(steps),
        _too_large(steps),
        _wrong_size(steps, height, width),
    )
    return next((found for check in checks for found in check), None)


def _wrong_order(steps: Sequence[Step]) -> Iterator[Contradiction]:
    expected = "expected one color, then center_crop and resize steps, then scale, then normalize"
    ranks = [step.rank for step in steps]
    for index, rank in enumerate(ranks):
        before = ranks[index - 1] if index else -1
        if rank < before or (rank == before and rank != 1) or (index == 0 and rank != 0):
            yield Contradiction(f"preprocess[{index}].step", f"out of order; {expected}")


def _wrong_channels(steps: Sequence[Step], channels: int) -> Iterator[Contradiction]:
    color = color_of(steps)
    if color.channels != channels:
        yield Contradiction(
            "input.channels", f"found {channels}, expected {color.channels} for {color.order}"
        )
    for index, step in enumerate(steps):
        for field in step.channel_fields:
            found = len(getattr(step, field))
            if found != color.channels:
                yield Contradiction(
                    f"preprocess[{index}].{field}",
                    f"found {found} numbers, expected {color.channels} for {color.order}",
                )


def _wrong_sampling(steps: Sequence[Step]) -> Iterator[Contradiction]:
    for index, step in enumerate(geometry_of(steps), start=1):
        problem = step.sampling and _sampling_problem(step.sampling)
        if problem:
            yield Contradiction(f"preprocess[{index}].{problem.field}", problem.problem)


def _sampling_problem(sampling: Sampling) -> Contradiction | None:
    if sampling.filter == "nearest" and sampling.antialias:
        return Contradiction("antialias", "expected false: nearest has no antialiasing")
    if sampling.filter == "lanczos" and sampling.resampling == "fast":
        return Contradiction("resampling", 'expected "exact": lanczos is not implemented as fast')
    if sampling.filter == "lanczos" and not sampling.antialias:
        return Contradiction("antialias", "expected true: lanczos always antialiases")
    if sampling.filter != "nearest" and sampling.resampling == "exact" and not sampling.antialias:
        return Contradiction("resampling", 'expected "fast": Pillow (exact) always antialiases')
    return None


def _uncropped(steps: Sequence[Step]) -> Iterator[Contradiction]:
    geometry = geometry_of(steps)
    for index, step in enumerate(geometry, start=1):
        cropped = any(after.sampling is None for after in geometry[index : index + 1])
        if step.needs_crop and not cropped:
            yield Contradiction(
                f"preprocess[{index}].mode",
                "expected a center_crop directly after shortest_side, contain and cover",
            )


def _too_large(steps: Sequence[Step]) -> Iterator[Contradiction]:
    for index, size in enumerate(fixed_sizes(steps), start=1):
        if size is not None and max(size) > MAX_SIDE:
            yield Contradiction(
                f"preprocess[{index}]",
                f"makes images of {size.height} x {size.width} px (height x width), expected at "
                f"most {MAX_SIDE} px a side",
            )


def _wrong_size(steps: Sequence[Step], height: int, width: int) -> Iterator[Contradiction]:
    size = fixed_output_size(steps)
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
