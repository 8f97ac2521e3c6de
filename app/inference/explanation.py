"""Which parts of an image a score depends on: occlusion (Zeiler and Fergus, 2014).

Boxes of the model's input are hidden one after the other: where the score falls, the model
looked. This needs nothing but scores, so it works with every engine, and for sealed models.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidArgument
from app.imaging.decode import turn_upright
from app.imaging.header import ImageHeader
from app.imaging.preprocess import Span, locate_image
from app.imaging.steps import Size
from app.inference.engines.base import FloatArray
from app.packages.package import Package

GRID = 7
"""Cells of each side of the model's input: of 32 px for the usual 224."""

BOX = 2
"""Side of a box in cells: boxes overlap by half, so that each cell is hidden four times."""

MAX_CELLS = 64
"""Of a side of a heat map, whose cells are half as large: those of a very long image are not
square."""

_MIN_LOSS = 1e-6
"""A heat map is all 0 where no box lowers the score's logit by so much."""

_MIN_ODDS = 1e-6
"""Scores nearer to 0 or 1 count as this near, because float32 hardly tells them from 0 or 1."""

_Box = tuple[slice, slice]
_Heat = NDArray[np.float64]


def _make_boxes() -> list[_Box]:
    """Rows and columns of each box in cells, coarse to fine: the first ones lie side by side."""
    corners = product(range(1 - BOX, GRID), repeat=2)
    rounds = sorted(corners, key=lambda corner: (sum(corner) % BOX, corner[0] % BOX))
    return [(_cells(row), _cells(column)) for row, column in rounds]


def _cells(start: int) -> slice:
    return slice(max(0, start), min(GRID, start + BOX))


BOXES = _make_boxes()
FIRST_ROUND = len(BOXES) // 4
"""So many boxes cover the input."""


@dataclass(frozen=True)
class Explanation:
    """A heat map of one image.

    Attributes:
        name: the label of the explained class.
        score: its score.
        heat: float64 (rows, columns), 0 to 1 for the part that matters most, of the whole
            upright image; 0 where the model does not see it.
        passes: how many inputs the model computed.
    """

    name: str
    score: float
    heat: _Heat
    passes: int


def require_label(labels: Sequence[str], label: str | None) -> None:
    """Require that a class has this label, or that none is asked for.

    Raises:
        InvalidArgument: no class has it.
    """
    if label is not None and label not in labels:
        raise InvalidArgument(
            "label: no class of this model has it; send one of its labels, as in results, "
            "or none for the top class"
        )


def explain(
    score: Callable[[FloatArray], FloatArray],
    package: Package,
    prepared: tuple[ImageHeader, FloatArray],
    label: str | None,
    until: float,
) -> Explanation:
    """Find the parts of an image on which the score of a class depends.

    Args:
        score: from the model's input, float32 (C, height, width), to the scores.
        package: of the model.
        prepared: header and input of the image, see prepare_image.
        label: of the class, see require_label; None for the one with the highest score. Of
            several classes with one label that with the highest score is explained.
        until: time.monotonic() from which the boxes that are left are skipped, except those of
            the first round: a busy server answers a coarser map.

    Raises:
        ApiError: what ``score`` raises.
    """
    header, model_input = prepared
    scores = score(model_input)
    named = [index for index, name in enumerate(package.labels) if label in (None, name)]
    chosen = max(named, key=scores.__getitem__)
    hidden_logits, boxes = _hide(lambda hidden: _logit(score(hidden)[chosen]), model_input, until)
    losses = _to_image(_logit(scores[chosen]) - hidden_logits, package, header)
    heat = losses.clip(min=0) / max(losses.max(), _MIN_LOSS)
    return Explanation(package.labels[chosen], float(scores[chosen]), heat, 1 + boxes)


def _hide(
    logit: Callable[[FloatArray], float], model_input: FloatArray, until: float
) -> tuple[_Heat, int]:
    """The mean logit while each cell is hidden, and the number of boxes."""
    fill = model_input.mean(axis=(1, 2), keepdims=True)
    edges = [np.linspace(0, side, GRID + 1).round().astype(int) for side in model_input.shape[1:]]
    totals, boxes = np.zeros((2, GRID, GRID))
    for number, box in enumerate(BOXES):
        if number >= FIRST_ROUND and time.monotonic() >= until:
            return totals / boxes, number
        rows, columns = (
            slice(edge[cells.start], edge[cells.stop])
            for edge, cells in zip(edges, box, strict=True)
        )
        hidden = model_input.copy()
        hidden[:, rows, columns] = fill
        totals[box] += logit(hidden)
        boxes[box] += 1
    return totals / boxes, len(BOXES)


def _logit(score: float) -> float:
    """The logarithm of the odds: unlike a score it still falls where that is nearly 1."""
    probability = min(max(float(score), _MIN_ODDS), 1 - _MIN_ODDS)
    return math.log(probability / (1 - probability))


def _to_image(heat: _Heat, package: Package, header: ImageHeader) -> _Heat:
    """From the cells of the model's input to cells of the upright image."""
    manifest, size = package.manifest, Size(header.height, header.width)
    is_turned = manifest.orientation == "exif"
    if is_turned and header.orientation >= 5:
        size = Size(*reversed(size))
    rows, columns = locate_image(manifest.preprocess, size)
    heat = _weights(rows, manifest.input.height) @ heat
    heat = heat @ _weights(columns, manifest.input.width).T
    return heat if is_turned else np.asarray(turn_upright(heat, header.orientation), np.float64)


def _weights(span: Span, side: int) -> _Heat:
    """Linear interpolation along a side of the input, from its cells to those of the image.

    Args:
        span: where the image begins and ends in the input, in px.
        side: of the input, in px.

    Returns:
        float64 (cells of the heat map, GRID); 0 for cells outside the input.
    """
    start, end = (place * GRID / side - 0.5 for place in span)
    cells = min(max(round(2 * (end - start)), 1), MAX_CELLS)
    middles = np.linspace(start, end, 2 * cells + 1)[1::2]
    weights = np.stack([np.interp(middles, range(GRID), row) for row in np.eye(GRID)], axis=1)
    weights[(middles < -0.5) | (middles > GRID - 0.5)] = 0
    return weights
