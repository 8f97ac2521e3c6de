"""The preprocessing of a package, from where training code defines it.

Each source gives the manifest's steps; torchvision and timm give their own transforms too,
which are then the reference.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from app.errors import OperatorError
from app.imaging.steps import Filter
from app.packages.build.foreign import import_extra
from app.packages.build.labels import read_text
from app.packages.build.reference import Transform

Steps = list[dict[str, Any]]

FILTERS = get_args(Filter)


@dataclass(frozen=True)
class Preset:
    """The steps of a manifest, and the transforms of their source, None if it has none.

    The origin names the source in an error.
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

    Raises:
        OperatorError: there is no such enum, or its transforms are not the classification
            preset.
    """
    torchvision = import_extra("torchvision", "--weights-enum")
    try:
        transform = torchvision.models.get_weight(name).transforms()
        resize, crop = transform.resize_size, transform.crop_size
    except (ValueError, AttributeError, KeyError) as exc:
        raise OperatorError(
            f"--weights-enum {name!r} names no classification weights of torchvision; "
            "expected for instance ResNet18_Weights.IMAGENET1K_V1"
        ) from exc
    sampling = _sampling(transform.interpolation.value, resampling, name)
    if len(resize) == 1:
        resized = _resize("shortest_side", sampling, size=resize[0])
    else:
        resized = _resize("exact", sampling, height=resize[0], width=resize[1])
    steps = _evaluation_steps(resized, crop[0], crop[-1], transform.mean, transform.std)
    return Preset(steps, transform, f"--weights-enum {name}")


def preset_from_timm(source: str, model: torch.nn.Module, resampling: str) -> Preset:
    """Take a timm data configuration, from the model or from a JSON file.

    The source is ``model`` for the module's own ``pretrained_cfg``, or the path of a JSON file
    with timm's keys (``input_size``, ``interpolation``, ``mean``, ``std``, ``crop_pct``,
    ``crop_mode``), also under ``pretrained_cfg`` as in a ``config.json``.

    Raises:
        OperatorError: there is no configuration, or the server has no step for a part of it.
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
    # As in timm.data.transforms_factory.transforms_imagenet_eval.
    before_crop = {"height": math.floor(height / fraction), "width": math.floor(width / fraction)}
    if mode == "center":
        resized = _resize("shortest_side", sampling, size=before_crop["height"])
    else:
        resized = _resize("exact", sampling, **before_crop)
    return _evaluation_steps(resized, height, width, config["mean"], config["std"])


@dataclass(frozen=True)
class FlagValues:
    """The preprocessing options of ``classifyd package build``, whose help describes them.

    None and empty mean not given. Sizes are (height, width) in pixels, and ``scale`` is
    (multiply, add) on grey levels 0 to 255.
    """

    color: str
    crop_fraction: float | None
    resize: tuple[int, int] | None
    resize_shortest: int | None
    letterbox: tuple[int, int] | None
    crop: tuple[int, int] | None
    filter: str
    antialias: bool
    resampling: str
    pad: tuple[int, ...]
    scale: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def preset_from_flags(flags: FlagValues) -> Preset:
    """Arrange the steps of the flags in the only valid order.

    Raises:
        OperatorError: not exactly one resize, or a mean without std.
    """
    pad = list(flags.pad) * (3 if flags.color != "GRAY" and len(flags.pad) == 1 else 1)
    resizes = _flag_resizes(flags, pad)
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
        steps.append({"step": "center_crop", "height": height, "width": width, "pad": pad})
    if flags.scale != (1, 0):
        steps.append({"step": "scale", "multiply": flags.scale[0], "add": flags.scale[1]})
    if flags.mean:
        steps.append({"step": "normalize", "mean": list(flags.mean), "std": list(flags.std)})
    return Preset(steps, None, "the flags")


def _flag_resizes(flags: FlagValues, pad: list[int]) -> Steps:
    sampling = _sampling(flags.filter, flags.resampling, "--filter", flags.antialias)
    steps: Steps = []
    if flags.resize is not None:
        height, width = flags.resize
        steps.append(_resize("exact", sampling, height=height, width=width))
    if flags.resize_shortest is not None:
        steps.append(_resize("shortest_side", sampling, size=flags.resize_shortest))
    if flags.letterbox is not None:
        height, width = flags.letterbox
        steps.append(_resize("letterbox", sampling, height=height, width=width) | {"pad": pad})
    return steps


def _evaluation_steps(
    resize: dict[str, Any], height: int, width: int, mean: Any, std: Any
) -> Steps:
    return [
        {"step": "color", "order": "RGB"},
        resize,
        {"step": "center_crop", "height": height, "width": width, "pad": [0, 0, 0]},
        {"step": "scale", "multiply": 1 / 255, "add": 0},
        {"step": "normalize", "mean": list(mean), "std": list(std)},
    ]


def _resize(mode: str, sampling: dict[str, Any], **size: int) -> dict[str, Any]:
    return {"step": "resize", "mode": mode, **size, **sampling}


def _sampling(name: str, resampling: str, origin: str, antialias: bool = True) -> dict[str, Any]:
    """Torchvision and timm always antialias a Pillow image; see app.packages.consistency."""
    if name not in FILTERS:
        raise OperatorError(f"{origin}: the interpolation {name!r} is none of {', '.join(FILTERS)}")
    return {
        "filter": name,
        "antialias": antialias and name != "nearest",
        "resampling": "exact" if name == "lanczos" else resampling,
    }


def _read_document(path: Path) -> Any:
    text = read_text(path, str(path))
    load: Callable[[str], Any] = json.loads
    if path.suffix in {".yaml", ".yml"}:
        load = import_extra("yaml", "a YAML file").safe_load
    try:
        return load(text)
    except Exception as exc:
        raise OperatorError(f"{path} is not {path.suffix[1:].upper() or 'JSON'}: {exc}") from exc
