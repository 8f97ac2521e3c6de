"""A folder of transformers: its model, labels and image processor."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from app.errors import OperatorError
from app.packages.build.foreign import import_extra
from app.packages.build.labels import check_labels, read_text
from app.packages.build.presets import (
    Preset,
    Steps,
    preset_from_timm_config,
    resize_step,
    sampling_of,
)
from app.packages.build.reference import Transform, transform_of
from app.packages.manifest import parse_preprocess
from app.reporting.counts import pluralise

logger = logging.getLogger(__name__)

OPTION = "--huggingface"
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Names of the numbers that Pillow gives its filters."""

_PROBED_SIZES = ((301, 404), (405, 302), (233, 233))
"""Of pictures of noise, on which a wrong crop or filter differs by far more than MAX_LEVELS."""

_MAX_LEVELS = 2.5
"""Of 255: torch's resampling, which transformers uses by default, differs by 2 from Pillow's."""


class Logits(torch.nn.Module):
    """A classifier of transformers that returns its logits alone."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute (N, classes)."""
        logits: torch.Tensor = self.model(pixel_values=images).logits
        return logits


def read_config(folder: Path) -> dict[str, Any]:
    """Read the folder's ``config.json``.

    Raises:
        OperatorError: there is none.
    """
    path = folder / "config.json"
    try:
        config = json.loads(read_text(path, f"{OPTION} {path}"))
    except ValueError as exc:
        raise OperatorError(f"{OPTION} {path} is not JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise OperatorError(f"{OPTION} {path}: expected a JSON object")
    return config


def labels_of(config: dict[str, Any], folder: Path) -> list[str]:
    """Read the labels of a configuration, by class index.

    Raises:
        OperatorError: it has none, or only the placeholders of transformers.
    """
    path = folder / "config.json"
    names = config.get("id2label") or config.get("label_names")
    if isinstance(names, dict):
        names = [names.get(str(index)) for index in range(len(names))]
    if not names or names == [f"LABEL_{index}" for index in range(len(names))]:
        raise OperatorError(
            f"{OPTION} {path} has no names for the classes (id2label): give --labels, in the order "
            "of the training"
        )
    return check_labels(names, path)


def task_of(config: dict[str, Any]) -> str:
    """Whether one or several labels can be true of an image."""
    several = config.get("problem_type") == "multi_label_classification"
    return "multi_label" if several else "single_label"


def load_model(folder: Path, classes: int) -> torch.nn.Module:
    """Load the classifier, without running code of the folder.

    Raises:
        OperatorError: transformers cannot load it as an image classifier, or a weight is missing.
    """
    transformers = _import_transformers()
    try:
        model, info = transformers.AutoModelForImageClassification.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as exc:
        # transformers raises many types for what a folder may lack.
        raise OperatorError(
            f"{OPTION} {folder} cannot be loaded as an image classifier: {_first_line(exc)}"
        ) from exc
    lacking = [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]
    if lacking:
        raise OperatorError(
            f"{OPTION} {folder}: the weights lack {', '.join(sorted(lacking)[:5])}, which "
            "transformers would make up; it is a model before its training, or of another task"
        )
    if ignored := sorted(info["unexpected_keys"]):
        listed = ", ".join(ignored[:5])
        logger.warning(
            "%s: ignored %s of %s", folder, pluralise(len(ignored), "unused weight"), listed
        )
    if model.config.num_labels != classes:
        found = pluralise(model.config.num_labels, "class")
        raise OperatorError(f"{OPTION} {folder} has {found}, but there are {classes} labels")
    return Logits(model).eval()


def preset_from_processor(folder: Path, resampling: str) -> Preset:
    """Make the steps of the folder's image processor, and prove that they give the same pixels.

    With ``exact`` the reference is its Pillow backend, otherwise the default of transformers.

    Raises:
        OperatorError: there is no processor, or the server has no step for a part of it.
    """
    transformers = _import_transformers()
    backend = {"backend": "pil"} if resampling == "exact" else {}
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **backend
        )
    except Exception as exc:
        raise OperatorError(
            f"{OPTION} {folder} has no image processor that transformers can load: "
            f"{_first_line(exc)}; give the preprocessing by options, such as --resize"
        ) from exc
    origin = f"{OPTION} {folder}: {type(processor).__name__}"
    if hasattr(processor, "data_config"):
        return preset_from_timm_config(processor.data_config, resampling, origin)
    steps = _steps_of(processor, resampling, origin)

    def transform(picture: Image.Image) -> torch.Tensor:
        pixels: torch.Tensor = processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return pixels

    _compare(transform, steps, origin)
    return Preset(steps, transform, origin)


def _import_transformers() -> ModuleType:
    # transformers imports it much later, where a torchvision for CUDA could not be helped.
    import_extra("torchvision", OPTION, "huggingface")
    transformers = import_extra("transformers", OPTION, "huggingface")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _steps_of(processor: Any, resampling: str, origin: str) -> Steps:
    steps: Steps = [{"step": "color", "order": "RGB"}]
    size, crop = _sides(processor.size), _sides(getattr(processor, "crop_size", None))
    crop = crop if getattr(processor, "do_center_crop", None) else {}
    name = type(processor).__name__
    if name.startswith("ConvNext"):
        size, crop = _convnext_sizes(size["shortest_edge"], processor.crop_pct)
    elif name.startswith("Levit"):
        size = {key: int((256 / 224) * side) for key, side in size.items()}
    if processor.do_resize:
        filter_ = _FILTERS.get(int(processor.resample), f"number {processor.resample}")
        sampling = sampling_of(filter_, resampling, origin)
        if set(size) == {"shortest_edge"}:
            steps.append(resize_step("shortest_side", sampling, size=size["shortest_edge"]))
        elif set(size) == {"height", "width"}:
            steps.append(resize_step("exact", sampling, **size))
        else:
            raise OperatorError(f"{origin}: the server has no step for the size {size}")
    if crop:
        steps.append({"step": "center_crop", **crop, "pad": [0, 0, 0], "rounding": "floor"})
    return steps + _value_steps(processor)


def _convnext_sizes(shortest: int, share: float) -> tuple[dict[str, int], dict[str, int]]:
    """The size of the resize and of the crop; there is none of large images."""
    square = {"height": shortest, "width": shortest}
    return ({"shortest_edge": int(shortest / share)}, square) if shortest < 384 else (square, {})


def _value_steps(processor: Any) -> Steps:
    steps: Steps = []
    if processor.do_rescale:
        add = -1 if getattr(processor, "rescale_offset", False) else 0
        steps.append({"step": "scale", "multiply": processor.rescale_factor, "add": add})
    if processor.do_normalize:
        mean, std = (np.array(v, float) for v in (processor.image_mean, processor.image_std))
        # EfficientNet divides by the standard deviation twice.
        std = std * std if getattr(processor, "include_top", False) else std
        mean, std = (np.broadcast_to(values, 3).tolist() for values in (mean, std))
        steps.append({"step": "normalize", "mean": mean, "std": std})
    return steps


def _sides(size: Any) -> dict[str, int]:
    """The sides that are set, of a dictionary or of transformers' SizeDict."""
    return {key: int(value) for key, value in dict(size or {}).items() if value}


def _compare(transform: Transform, steps: Steps, origin: str) -> None:
    """Compare the steps with the processor on pictures of several sizes."""
    own = transform_of(parse_preprocess(steps, origin))
    random = np.random.default_rng(0)
    level = _level(steps)
    for height, width in _PROBED_SIZES:
        noise = random.integers(0, 256, (height, width, 3), np.uint8)
        picture = Image.fromarray(noise)
        found, expected = own(picture), transform(picture)
        same = found.shape == expected.shape
        if not same or float((found - expected).abs().max()) > _MAX_LEVELS * level:
            raise OperatorError(
                f"{origin} does more than its fields say; describe it by --preprocess FILE, and "
                "compare the scores with your own pipeline"
            )


def _level(steps: Sequence[dict[str, Any]]) -> float:
    """What one grey level is in the model's input, at most."""
    level = 1.0
    for step in steps:
        level *= step.get("multiply", 1)
        level /= min(step.get("std", [1]))
    return level


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:250]
