"""Random views of a photo to train on, by torchvision's transforms."""

import math
from functools import cache
from types import ModuleType

import torch

from app.errors import ApiError, OperatorError
from app.evaluation.dataset import read_image
from app.imaging.decode import decode
from app.imaging.guard import guard
from app.imaging.preprocess import Preprocessor
from app.imaging.reduction import largest_reduction
from app.imaging.steps import Geometry, fixed_output_size
from app.packages.build.foreign import import_extra
from app.packages.manifest import parse_preprocess
from app.training.backbone import Backbone
from app.training.inspection import Inspected

MIN_AREA = 0.35
MAX_ASPECT = 4 / 3
"""As in torchvision's RandomResizedCrop; its smallest area, 0.08, is for millions of photos."""

JITTER = 0.2
"""Largest change of brightness, contrast and saturation."""

_TRIES = 10


class AugmentedReader:
    """Makes random inputs of a photo; thread-safe.

    Each view has a random generator of its own, so that it is the same whatever else is drawn,
    by however many threads, before or after an interruption.
    """

    def __init__(self, backbone: Backbone) -> None:
        steps = parse_preprocess(backbone.steps, backbone.name)
        size = fixed_output_size(steps)
        assert size is not None  # noqa: S101 - a preset has one
        # Here, because an import by several threads at once may fail.
        _functional()
        self._steps, self._size = steps, [size.height, size.width]
        self._values = Preprocessor([step for step in steps if not isinstance(step, Geometry)])

    def __call__(self, photo: Inspected, seed: int) -> torch.Tensor:
        """Draw a view; float32 (C, height, width).

        Raises:
            OperatorError: the photo has changed since it was inspected.
        """
        try:
            header, data = guard(read_image(photo.photo.path))
            pixels = decode(header, data, largest_reduction(self._steps, header))
        except ApiError as exc:
            raise OperatorError(f"{photo.photo.path} has changed: {exc.detail}") from exc
        random = torch.Generator().manual_seed(seed)
        picture = torch.from_numpy(pixels).permute(2, 0, 1)
        view = _jitter(self._crop(picture, random), random)
        return torch.from_numpy(self._values(view.permute(1, 2, 0).contiguous().numpy()))

    def _crop(self, picture: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Crop, resize and mirror, as RandomResizedCrop and RandomHorizontalFlip do."""
        height, width = picture.shape[1:]
        rows, columns = _draw_size(height, width, random)
        top = _uniform(0, height - rows, random)
        left = _uniform(0, width - columns, random)
        functional = _functional()
        view: torch.Tensor = functional.resized_crop(
            picture, round(top), round(left), rows, columns, self._size, antialias=True
        )
        mirrored: torch.Tensor = functional.horizontal_flip(view)
        return mirrored if _uniform(0, 1, random) < 0.5 else view


def _draw_size(height: int, width: int, random: torch.Generator) -> tuple[int, int]:
    for _ in range(_TRIES):
        area = height * width * _uniform(MIN_AREA, 1, random)
        aspect = math.exp(_uniform(-math.log(MAX_ASPECT), math.log(MAX_ASPECT), random))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            return rows, columns
    return min(height, width), min(height, width)


def _jitter(view: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    functional = _functional()
    for adjust in (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
    ):
        view = adjust(view, _uniform(1 - JITTER, 1 + JITTER, random))
    return view


def _uniform(low: float, high: float, random: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=random, dtype=torch.float64))


@cache
def _functional() -> ModuleType:
    return import_extra("torchvision.transforms.v2.functional", "classifyd train", "train")
