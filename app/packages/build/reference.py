"""The reference: what training code does, with Pillow and the eager module.

It shares no pixel arithmetic with ``app.imaging``, which is tested against it; only the sizes
come from the steps.
"""

import io
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from app.errors import OperatorError
from app.imaging.header import OrientationRule
from app.imaging.preprocess import FloatArray
from app.imaging.steps import (
    Geometry,
    Normalize,
    Rounding,
    Sampling,
    Scale,
    Size,
    Step,
    color_of,
    geometry_of,
)

Transform = Callable[[Image.Image], torch.Tensor]
"""From an RGB picture to the model's input, float32 (C, H, W)."""


def open_picture(data: bytes, name: str, orientation: OrientationRule) -> Image.Image:
    """Open the bytes of an image file as training code does: RGB, upright unless ignored.

    Raises:
        OperatorError: Pillow cannot read it; the text names the file.
    """
    try:
        picture: Image.Image = Image.open(io.BytesIO(data))
        if orientation == "exif":
            picture = ImageOps.exif_transpose(picture)
        return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, struct.error) as exc:
        raise OperatorError(f"{name} is not an image that Pillow can read") from exc


def transform_of(steps: Sequence[Step]) -> Transform:
    """Make the transform that a package's steps describe, with Pillow's own operations."""

    def transform(picture: Image.Image) -> torch.Tensor:
        order = color_of(steps).order
        picture = picture.convert("L") if order == "GRAY" else picture
        if order == "BGR":
            # Before the geometry, as the steps give the fill in the model's order.
            red, green, blue = picture.split()
            picture = Image.merge("RGB", (blue, green, red))
        for step in geometry_of(steps):
            picture = _apply(step, picture)
        return _values(steps, picture)

    return transform


def reference_scores(
    model: Callable[[torch.Tensor], Any], inputs: torch.Tensor, kind: str, task: str
) -> FloatArray:
    """Compute the scores of preprocessed images, one by one.

    Args:
        model: the eager module in evaluation mode, on the CPU, or a function that returns what
            ``torch.as_tensor`` accepts.
        inputs: float32 (N, C, H, W).
        kind: ``logits`` or ``probabilities``.
        task: ``single_label`` or ``multi_label``.

    Returns:
        float32 (N, classes).

    Raises:
        OperatorError: an output is not finite.
    """
    with torch.inference_mode():
        each = [torch.as_tensor(model(image)) for image in torch.split(inputs, 1)]
        outputs = torch.cat(each).double()
    if kind == "logits":
        outputs = outputs.softmax(dim=1) if task == "single_label" else outputs.sigmoid()
    if not bool(outputs.isfinite().all()):
        raise OperatorError("the model's output is not finite; are the weights right?")
    scores: FloatArray = outputs.float().numpy()
    return scores


def _apply(step: Geometry, picture: Image.Image) -> Image.Image:
    size = Size(picture.height, picture.width)
    if step.sampling is not None:
        picture = _resize(picture, step.resized_size(size), step.sampling)
    return _crop(picture, step.output_size(size), step.pad, step.rounding)


def _crop(
    picture: Image.Image, size: Size, pad: tuple[int, ...], rounding: Rounding
) -> Image.Image:
    """Centre as torchvision's and transformers' center_crop do: fill first, then crop."""
    height, width = max(size.height, picture.height), max(size.width, picture.width)
    if (height, width) != (picture.height, picture.width):
        filled = Image.new(picture.mode, (width, height), pad if len(pad) > 1 else pad[0])
        filled.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
        picture = filled
    halve = math.floor if rounding == "floor" else round
    top, left = halve((height - size.height) / 2), halve((width - size.width) / 2)
    return picture.crop((left, top, left + size.width, top + size.height))


def _resize(picture: Image.Image, size: Size, sampling: Sampling) -> Image.Image:
    if sampling.antialias or sampling.filter == "nearest":
        return picture.resize((size.width, size.height), Image.Resampling[sampling.filter.upper()])
    array = np.atleast_3d(np.asarray(picture)).astype(np.float32)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0), size=size, mode=sampling.filter
    )
    levels = resized[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(levels[:, :, 0] if picture.mode == "L" else levels)


def _values(steps: Sequence[Step], picture: Image.Image) -> torch.Tensor:
    values = torch.from_numpy(np.atleast_3d(np.asarray(picture)).astype(np.float32))
    for step in steps:
        match step:
            case Scale(multiply, add):
                values = values * multiply + add
            case Normalize(mean, std):
                values = (values - torch.tensor(mean)) / torch.tensor(std)
    return values.permute(2, 0, 1).contiguous()
