"""Golden samples: images with their scores from the reference path."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from app.errors import OperatorError
from app.imaging.header import OrientationRule
from app.imaging.preprocess import FloatArray
from app.packages.build.reference import Transform, open_picture, reference_scores
from app.packages.write import GoldenDraft
from app.reporting.counts import pluralise

FAST_TOLERANCE = 0.005
EXACT_TOLERANCE = 0.0005
MAX_GOLDEN = 64
"""Largest difference of a score that fast and exact resampling may cause."""


@dataclass(frozen=True)
class GoldenImage:
    """A file that becomes a golden sample, and what the user knows of it.

    Attributes:
        name: of the file.
        data: its bytes.
        label: the label that must score highest.
        score: its score.
        scores: all scores, float32 (classes,).
    """

    name: str
    data: bytes
    label: str | None = None
    score: float | None = None
    scores: FloatArray | None = None


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
    """Compute the reference scores and check them against what the user knows.

    Where the user knows all scores, these are the golden ones, whatever the reference says: the
    check of the package finds the cause of a difference.

    Args:
        images: the golden images.
        inputs: from preprocess_golden.
        model: the eager module.
        output: its kind and task.
        labels: by class index.
        tolerance: the largest tolerated difference of a score.

    Raises:
        OperatorError: another label than the user's scores highest, or with another score.
    """
    scores = reference_scores(model, inputs, *output)
    wrong = [
        f"{image.name}: expected {image.label!r}, the reference says {problem}"
        for image, row in zip(images, scores, strict=True)
        if (problem := _find_problem(image, row, labels, tolerance))
    ]
    if wrong:
        raise OperatorError(
            f"{len(wrong)} of {pluralise(len(images), 'golden sample')} wrong; {wrong[0]}; likely "
            "cause: the label file is wrong or in another order, or the preprocessing differs "
            "from the training; with all scores in --golden-scores, build looks for the cause"
        )
    known = [row if i.scores is None else i.scores for i, row in zip(images, scores, strict=True)]
    difference = _describe_difference(images, scores, tolerance)
    return GoldenDraft(tolerance, [image.data for image in images], np.stack(known), difference)


def _find_problem(
    image: GoldenImage, row: FloatArray, labels: Sequence[str], tolerance: float
) -> str:
    top = int(np.argmax(row))
    if image.label is None:
        return ""
    if image.label != labels[top]:
        return f"{labels[top]!r} ({row[top]:.3f})"
    if image.score is not None and abs(image.score - row[top]) > tolerance:
        return f"{row[top]:.4f} in place of {image.score:.4f}"
    return ""


def _describe_difference(
    images: Sequence[GoldenImage], scores: FloatArray, tolerance: float
) -> str:
    """Say how the reference's scores differ from those of the training."""
    rows = [(i, row) for i, row in zip(images, scores, strict=True) if i.scores is not None]
    off = [float(np.abs(row - image.scores).max()) for image, row in rows]
    if max(off, default=0.0) <= tolerance:
        return ""
    worst = int(np.argmax(off))
    same = sum(int(image.scores.argmax()) == int(row.argmax()) for image, row in rows)  # type: ignore[union-attr]  # see rows
    return (
        f"--golden-scores: the package would not give the scores of the training: same top class "
        f"on {same} of {pluralise(len(rows), 'image')}, {rows[worst][0].name} is off by "
        f"{off[worst]:.4f}"
    )
