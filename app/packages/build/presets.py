"""The preprocessing of a package, from where training code defines it.

Each source gives the manifest's steps; torchvision and timm give their own transforms too,
which are then the reference.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from app.errors import OperatorError
from app.imaging.steps import Filter
from app.packages.build.foreign import import_extra
from app.packages.build.labels import read_text
from app.packages.build.reference import Transform
from app.packages.schema import MAX_SHOWN, parse_json
from app.reporting.counts import pluralise

Steps = list[dict[str, Any]]

FILTERS = get_args(Filter)
TIMM_KEYS = ("input_size", "interpolation", "mean", "std", "crop_pct")
"""What a timm data configuration must say; timm has defaults, which may be wrong for the model."""


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
        OperatorError: it cannot be read, holds no list, or something beside it.
    """
    document = _read_document(path)
    steps = document.get("preprocess") if isinstance(document, dict) else document
    if not isinstance(steps, list):
        raise OperatorError(
            f"--preprocess {path}: expected a list of steps, or one under preprocess"
        )
    if isinstance(document, dict) and len(document) > 1:
        unknown = ", ".join(str(key) for key in document if key != "preprocess")
        raise OperatorError(
            f"--preprocess {path}: unknown keys {unknown[:MAX_SHOWN]}: only the steps under "
            "preprocess are read; the other fields of a manifest have options of their own"
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
    sampling = sampling_of(transform.interpolation.value, resampling, name)
    if len(resize) == 1:
        resized = resize_step("shortest_side", sampling, size=resize[0])
    else:
        resized = resize_step("exact", sampling, height=resize[0], width=resize[1])
    steps = evaluation_steps(resized, crop[0], crop[-1], transform.mean, transform.std)
    return Preset(steps, transform, f"--weights-enum {name}")


def preset_from_timm(source: str, model: torch.nn.Module, resampling: str) -> Preset:
    """Take a timm data configuration, from the model or from a JSON file.

    The source is ``model`` for the module's own ``pretrained_cfg``, or the path of a JSON file
    with timm's keys (TIMM_KEYS and ``crop_mode``), also under ``pretrained_cfg`` as in timm's
    ``config.json``.

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
        config = timm.resolve_data_config({}, pretrained_cfg=_read_timm_config(Path(source)))
    return preset_from_timm_config(config, resampling, origin)


def preset_from_timm_config(config: dict[str, Any], resampling: str, origin: str) -> Preset:
    """Make the steps of timm's ``transforms_imagenet_eval``.

    Args:
        config: a complete data configuration, as ``resolve_data_config`` returns.
        resampling: of the resize.
        origin: names the configuration in an error.

    Raises:
        OperatorError: the server has no step for a part of it.
    """
    timm = import_extra("timm.data", origin)
    channels, height, width = config["input_size"]
    mode, fraction = config.get("crop_mode") or "center", config["crop_pct"]
    if channels != 3 or mode not in {"center", "squash", "border"}:
        raise OperatorError(
            f"{origin}: crop_mode {mode!r} with {pluralise(channels, 'channel')} has no step here; "
            "expected center, squash or border, with 3 channels"
        )
    sampling = sampling_of(config["interpolation"], resampling, origin)
    before_crop = {"height": math.floor(height / fraction), "width": math.floor(width / fraction)}
    if mode == "squash":
        resized = resize_step("exact", sampling, **before_crop)
    elif mode == "border":
        resized = resize_step("contain", sampling, **before_crop)
    elif before_crop["height"] != before_crop["width"]:
        resized = resize_step("cover", sampling, **before_crop)
    else:
        resized = resize_step("shortest_side", sampling, size=before_crop["height"])
    steps = evaluation_steps(resized, height, width, config["mean"], config["std"])
    if mode == "border":
        steps[2]["pad"] = [round(255 * level) for level in config["mean"]]
    return Preset(steps, timm.create_transform(**config, is_training=False), origin)


def _read_timm_config(path: Path) -> dict[str, Any]:
    document = _read_document(path)
    config = document.get("pretrained_cfg", document) if isinstance(document, dict) else {}
    missing = [key for key in TIMM_KEYS if not config.get(key)]
    if missing:
        is_transformers = any(
            key in config for key in ("image_processor_type", "transformers_version")
        )
        way = (
            "it is a file of transformers, whose folder --huggingface takes"
            if is_transformers
            else "timm's config.json, or the model's pretrained_cfg as JSON, has them"
        )
        raise OperatorError(
            f"--timm-config {path} is no data configuration of timm, without {', '.join(missing)}: "
            f"{way}"
        )
    return dict(config)


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
    rounding: str
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
            "--weights-enum, --timm-config, --huggingface or --ultralytics"
        )
    if bool(flags.mean) != bool(flags.std):
        raise OperatorError("--mean and --std go together")
    rounding = {"rounding": flags.rounding} if flags.rounding != "half_even" else {}
    steps: Steps = [{"step": "color", "order": flags.color}]
    if flags.crop_fraction is not None:
        fraction = {"fraction_of_shortest_side": flags.crop_fraction}
        steps.append({"step": "center_crop", **fraction, **rounding})
    steps += resizes
    if flags.crop is not None:
        height, width = flags.crop
        crop = {"height": height, "width": width, "pad": pad}
        steps.append({"step": "center_crop", **crop, **rounding})
    if flags.scale != (1, 0):
        steps.append({"step": "scale", "multiply": flags.scale[0], "add": flags.scale[1]})
    if flags.mean:
        steps.append({"step": "normalize", "mean": list(flags.mean), "std": list(flags.std)})
    return Preset(steps, None, "the flags")


def _flag_resizes(flags: FlagValues, pad: list[int]) -> Steps:
    sampling = sampling_of(flags.filter, flags.resampling, "--filter", flags.antialias)
    steps: Steps = []
    if flags.resize is not None:
        height, width = flags.resize
        steps.append(resize_step("exact", sampling, height=height, width=width))
    if flags.resize_shortest is not None:
        steps.append(resize_step("shortest_side", sampling, size=flags.resize_shortest))
    if flags.letterbox is not None:
        height, width = flags.letterbox
        steps.append(resize_step("letterbox", sampling, height=height, width=width) | {"pad": pad})
    return steps


def evaluation_steps(
    resized: dict[str, Any], height: int, width: int, mean: Any, std: Any
) -> Steps:
    """The usual steps: a resize, a crop, values from 0 to 1, and their normalisation."""
    return [
        {"step": "color", "order": "RGB"},
        resized,
        {"step": "center_crop", "height": height, "width": width, "pad": [0, 0, 0]},
        {"step": "scale", "multiply": 1 / 255, "add": 0},
        {"step": "normalize", "mean": list(mean), "std": list(std)},
    ]


def resize_step(mode: str, sampling: dict[str, Any], **size: int) -> dict[str, Any]:
    """One resize step."""
    return {"step": "resize", "mode": mode, **size, **sampling}


def sampling_of(name: str, resampling: str, origin: str, antialias: bool = True) -> dict[str, Any]:
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
    if path.suffix not in {".yaml", ".yml"}:
        return parse_json(text.encode(), str(path))
    yaml = import_extra("yaml", "a YAML file")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise OperatorError(f"{path} is not YAML: {exc}") from exc
