"""Golden samples: images with the scores that the reference path gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from app.errors import OperatorError
from app.packages.build.reference import Transform, open_picture, reference_scores
from app.packages.write import GoldenDraft

FAST_TOLERANCE = 0.005
EXACT_TOLERANCE = 0.0005
"""Of a score: what fast and exact resampling are allowed to cost."""


@dataclass(frozen=True)
class GoldenImage:
    """An image of which the scores are to be known.

    Attributes:
        name: what to call it.
        data: the file's bytes.
        label: the label that must come first, or None when nobody knows.
    """

    name: str
    data: bytes
    label: str | None = None


def read_golden_images(arguments: Sequence[str]) -> list[GoldenImage]:
    """Read the user's images, or the builder's own photos when there are none.

    Args:
        arguments: a FILE each, or ``LABEL=FILE`` to say which label must come first.

    Raises:
        OperatorError: a file cannot be read.
    """
    if not arguments:
        photos = sorted(files("app.packages").joinpath("photos").iterdir(), key=lambda p: p.name)
        return [
            GoldenImage(photo.name, photo.read_bytes())
            for photo in photos
            if photo.name.endswith(".jpg")
        ]
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


def preprocess_golden(images: Sequence[GoldenImage], transform: Transform) -> torch.Tensor:
    """Run the reference transform over the images.

    Returns:
        float32 (N, C, H, W).

    Raises:
        OperatorError: an image cannot be read by Pillow.
    """
    return torch.stack([transform(open_picture(image.data, image.name)) for image in images])


def draft_golden(
    images: Sequence[GoldenImage],
    inputs: torch.Tensor,
    model: torch.nn.Module,
    output: tuple[str, str],
    labels: Sequence[str],
    tolerance: float,
) -> GoldenDraft:
    """Compute the reference scores and check the labels that the user knows.

    Args:
        images: the golden images.
        inputs: from preprocess_golden.
        model: the eager module.
        output: its kind and task.
        labels: by class index.
        tolerance: the largest difference of a score that is let pass.

    Raises:
        OperatorError: another label comes first than the user said.
    """
    scores = reference_scores(model, inputs, *output)
    for image, row in zip(images, scores, strict=True):
        top = labels[int(np.argmax(row))]
        if image.label is not None and image.label != top:
            raise OperatorError(
                f"--golden {image.label}={image.name}: the reference says {top!r} "
                f"({row.max():.3f}); likely cause: the label file is another one or in another "
                "order, or the preprocessing is not the one of the training"
            )
    return GoldenDraft(tolerance, [image.data for image in images], scores)
