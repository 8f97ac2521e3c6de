"""The preprocessing of a package, from where people have it written down.

Each source gives the manifest's steps; those that come with transforms of their own
(torchvision, timm) give these as the reference too.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.errors import OperatorError
from app.packages.build.foreign import import_extra, import_torchvision
from app.packages.build.reference import Transform

Steps = list[dict[str, Any]]

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True)
class Preset:
    """A preprocessing.

    Attributes:
        steps: as the manifest lists them.
        transform: the source's own transforms, or None when the steps are all there is.
        origin: what to call it in an error.
    """

    steps: Steps
    transform: Transform | None
    origin: str


def preset_from_file(path: Path) -> Preset:
    """Read the steps from a YAML or JSON file: the list, or an object with ``preprocess``.

    Raises:
        OperatorError: it cannot be read or holds no list.
    """
    document = _read_document(path)
    steps = document.get("preprocess") if isinstance(document, dict) else document
    if not isinstance(steps, list):
        raise OperatorError(
            f"--preprocess {path}: expected a list of steps, or one under preprocess"
        )
    return Preset(steps, None, str(path))


def preset_from_weights_enum(name: str, resampling: str) -> Preset:
    """Take the transforms of a torchvision weights enum, without its weights.

    Args:
        name: such as ``ResNet18_Weights.IMAGENET1K_V1``.
        resampling: ``fast`` or ``exact``.

    Raises:
        OperatorError: there is no such enum, or its transforms are not the classification
            preset.
    """
    torchvision = import_torchvision("--weights-enum")
    try:
        transform = torchvision.models.get_weight(name).transforms()
        resize, crop = transform.resize_size, transform.crop_size
    except (ValueError, AttributeError, KeyError) as exc:
        raise OperatorError(
            f"--weights-enum {name!r} names no classification weights of torchvision; "
            "expected for instance ResNet18_Weights.IMAGENET1K_V1"
        ) from exc
    sampling = _sampling(transform.interpolation.value, resampling, name)
    height, width = crop[0], crop[-1]
    resized = (
        {"step": "resize", "mode": "shortest_side", "size": resize[0], **sampling}
        if len(resize) == 1
        else _exact(resize[0], resize[1], sampling)
    )
    steps = [
        {"step": "color", "order": "RGB"},
        resized,
        {"step": "center_crop", "height": height, "width": width, "pad": [0, 0, 0]},
        *_normalized(transform.mean, transform.std),
    ]
    return Preset(steps, transform, f"--weights-enum {name}")


def preset_from_timm(source: str, model: torch.nn.Module, resampling: str) -> Preset:
    """Take a timm data configuration: that of the model, or of a JSON file.

    Args:
        source: ``model``, or the path of a JSON file with timm's keys (``input_size``,
            ``interpolation``, ``mean``, ``std``, ``crop_pct``, ``crop_mode``), also under
            ``pretrained_cfg`` as in a ``config.json``.
        model: the eager module, whose ``pretrained_cfg`` is read for ``model``.
        resampling: ``fast`` or ``exact``.

    Raises:
        OperatorError: the file has none, or it says what the server has no step for.
    """
    timm = import_extra("timm.data", "--timm-config")
    origin = f"--timm-config {source}"
    if source == "model":
        if not hasattr(model, "pretrained_cfg"):
            raise OperatorError(f"{origin}: the model has no pretrained_cfg; name a JSON file")
        config = timm.resolve_data_config({}, model=model)
    else:
        document = _read_document(Path(source))
        given = document.get("pretrained_cfg", document) if isinstance(document, dict) else {}
        config = timm.resolve_data_config({}, pretrained_cfg=given)
    transform = timm.create_transform(**config, is_training=False)
    return Preset(_timm_steps(config, resampling, origin), transform, origin)


def _timm_steps(config: dict[str, Any], resampling: str, origin: str) -> Steps:
    channels, height, width = config["input_size"]
    mode, fraction = config.get("crop_mode") or "center", config.get("crop_pct") or 1.0
    if channels != 3 or mode not in {"center", "squash"} or (mode == "center" and height != width):
        raise OperatorError(
            f"{origin}: crop_mode {mode!r} at input_size {config['input_size']} has no step here; "
            "expected three channels and center (of a square) or squash"
        )
    sampling = _sampling(config["interpolation"], resampling, origin)
    # timm.data.transforms_factory.transforms_imagenet_eval
    resized_height, resized_width = math.floor(height / fraction), math.floor(width / fraction)
    return [
        {"step": "color", "order": "RGB"},
        {"step": "resize", "mode": "shortest_side", "size": resized_height, **sampling}
        if mode == "center"
        else _exact(resized_height, resized_width, sampling),
        {"step": "center_crop", "height": height, "width": width, "pad": [0, 0, 0]},
        *_normalized(config["mean"], config["std"]),
    ]


@dataclass(frozen=True)
class FlagValues:
    """A preprocessing as flags say it; None and empty mean not given.

    Attributes:
        color: ``RGB``, ``BGR`` or ``GRAY``.
        crop_fraction: of the shortest side, cropped before the resize.
        resize: (height, width) that both sides become, without proportions.
        resize_shortest: what the shortest side becomes.
        letterbox: (height, width) that the whole image is fitted in.
        crop: (height, width) cropped after the resize.
        filter: one of FILTERS.
        antialias: whether the filter is widened when shrinking.
        resampling: ``fast`` or ``exact``.
        pad: the grey levels of a fill, one or one for each channel.
        scale: (multiply, add) on grey levels.
        mean: one for each channel.
        std: one for each channel.
    """

    color: str = "RGB"
    crop_fraction: float | None = None
    resize: tuple[int, int] | None = None
    resize_shortest: int | None = None
    letterbox: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    filter: str = "bilinear"
    antialias: bool = True
    resampling: str = "fast"
    pad: tuple[int, ...] = (0,)
    scale: tuple[float, float] = (1 / 255, 0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def preset_from_flags(flags: FlagValues) -> Preset:
    """Join the steps that the flags name, in the one order in which they make sense.

    Raises:
        OperatorError: not exactly one resize, or a mean without std.
    """
    channels = 1 if flags.color == "GRAY" else 3
    resizes = _flag_resizes(flags, channels)
    if len(resizes) != 1:
        raise OperatorError(
            "expected one of --resize, --resize-shortest and --letterbox, or --preprocess, "
            "--weights-enum or --timm-config"
        )
    if bool(flags.mean) != bool(flags.std):
        raise OperatorError("--mean and --std go together")
    steps: Steps = [{"step": "color", "order": flags.color}]
    if flags.crop_fraction is not None:
        steps.append({"step": "center_crop", "fraction_of_shortest_side": flags.crop_fraction})
    steps += resizes
    if flags.crop is not None:
        height, width = flags.crop
        pad = _per_channel(flags.pad, channels)
        steps.append({"step": "center_crop", "height": height, "width": width, "pad": pad})
    if flags.scale != (1, 0):
        steps.append({"step": "scale", "multiply": flags.scale[0], "add": flags.scale[1]})
    if flags.mean:
        steps.append({"step": "normalize", "mean": list(flags.mean), "std": list(flags.std)})
    return Preset(steps, None, "the flags")


def _flag_resizes(flags: FlagValues, channels: int) -> Steps:
    sampling = {
        "filter": flags.filter,
        "antialias": flags.antialias and flags.filter != "nearest",
        # What exists in one form only; see app.packages.consistency.
        "resampling": "exact" if flags.filter == "lanczos" else flags.resampling,
    }
    steps: Steps = []
    if flags.resize is not None:
        steps.append(_exact(*flags.resize, sampling))
    if flags.resize_shortest is not None:
        size = flags.resize_shortest
        steps.append({"step": "resize", "mode": "shortest_side", "size": size, **sampling})
    if flags.letterbox is not None:
        pad = _per_channel(flags.pad, channels)
        steps.append({**_exact(*flags.letterbox, sampling), "mode": "letterbox", "pad": pad})
    return steps


def _per_channel(values: tuple[int, ...], channels: int) -> list[int]:
    return list(values) * channels if len(values) == 1 else list(values)


def _exact(height: int, width: int, sampling: dict[str, Any]) -> dict[str, Any]:
    return {"step": "resize", "mode": "exact", "height": height, "width": width, **sampling}


def _sampling(name: str, resampling: str, origin: str) -> dict[str, Any]:
    """On a Pillow image torchvision and timm always antialias."""
    if name not in FILTERS:
        raise OperatorError(f"{origin}: the interpolation {name!r} is none of {', '.join(FILTERS)}")
    return {
        "filter": name,
        "antialias": name != "nearest",
        "resampling": "exact" if name == "lanczos" else resampling,
    }


def _normalized(mean: Any, std: Any) -> Steps:
    return [
        {"step": "scale", "multiply": 1 / 255, "add": 0},
        {"step": "normalize", "mean": list(mean), "std": list(std)},
    ]


def _read_document(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise OperatorError(f"{path} cannot be read: {reason}") from exc
    load: Callable[[str], Any] = json.loads
    if path.suffix in {".yaml", ".yml"}:
        load = import_extra("yaml", "a YAML file").safe_load
    try:
        return load(text)
    except Exception as exc:
        raise OperatorError(f"{path} is no {path.suffix[1:].upper() or 'JSON'}: {exc}") from exc
