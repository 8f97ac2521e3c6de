"""Golden samples: images with their scores from the reference path."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from app.errors import OperatorError
from app.imaging.header import OrientationRule
from app.packages.build.reference import Transform, open_picture, reference_scores
from app.packages.write import GoldenDraft

FAST_TOLERANCE = 0.005
EXACT_TOLERANCE = 0.0005
"""Largest difference of a score that fast and exact resampling may cause."""


@dataclass(frozen=True)
class GoldenImage:
    """A file that becomes a golden sample, and the label that must score highest, if known."""

    name: str
    data: bytes
    label: str | None = None


def read_golden_images(arguments: Sequence[str]) -> list[GoldenImage]:
    """Read the user's images, ``FILE`` or ``LABEL=FILE``, or without any, the builder's photos.

    Raises:
        OperatorError: a file cannot be read.
    """
    if not arguments:
        photos = sorted(files("app.packages").joinpath("photos").iterdir(), key=lambda p: p.name)
        jpgs = (photo for photo in photos if photo.name.endswith(".jpg"))
        return [GoldenImage(photo.name, photo.read_bytes()) for photo in jpgs]
    return [_read_image(argument) for argument in arguments]


def _read_image(argument: str) -> GoldenImage:
    label, separator, file = argument.rpartition("=")
    if Path(argument).exists():
        label, separator, file = "", "", argument
    try:
        data = Path(file).read_bytes()
    except OSError as exc:
        raise OperatorError(f"--golden {argument}: {file} cannot be read: {exc.strerror}") from exc
    return GoldenImage(Path(file).name, data, label if separator else None)


def preprocess_golden(
    images: Sequence[GoldenImage], transform: Transform, orientation: OrientationRule
) -> torch.Tensor:
    """Run the reference transform over the images; return float32 (N, C, H, W).

    Raises:
        OperatorError: Pillow cannot read an image.
    """
    pictures = (open_picture(image.data, image.name, orientation) for image in images)
    return torch.stack([transform(picture) for picture in pictures])


def draft_golden(
    images: Sequence[GoldenImage],
    inputs: torch.Tensor,
    model: torch.nn.Module,
    output: tuple[str, str],
    labels: Sequence[str],
    tolerance: float,
) -> GoldenDraft:
    """Compute the reference scores and check them against the user's labels.

    Args:
        images: the golden images.
        inputs: from preprocess_golden.
        model: the eager module.
        output: its kind and task.
        labels: by class index.
        tolerance: the largest tolerated difference of a score.

    Raises:
        OperatorError: another label than the user's scores highest.
    """
    scores = reference_scores(model, inputs, *output)
    for image, row in zip(images, scores, strict=True):
        top = labels[int(np.argmax(row))]
        if image.label is not None and image.label != top:
            raise OperatorError(
                f"--golden {image.label}={image.name}: the reference says {top!r} "
                f"({row.max():.3f}); likely cause: the label file is wrong or in another "
                "order, or the preprocessing differs from the training"
            )
    return GoldenDraft(tolerance, [image.data for image in images], scores)
