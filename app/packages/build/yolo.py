"""An export of Ultralytics: a model with what its ``predict`` needs to know."""

import ast
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import OperatorError
from app.packages.build.checkpoint import foreign_types, ultralytics_export
from app.packages.build.formats import refuse_other_format
from app.packages.build.labels import check_labels
from app.packages.build.presets import Preset, evaluation_steps, resize_step, sampling_of
from app.packages.onnx_file import parse_onnx

OPTION = "--ultralytics"
_METADATA = "/extra/config.txt"


@dataclass(frozen=True)
class YoloExport:
    """The metadata of an exported classifier.

    Attributes:
        path: of the export.
        labels: by class index.
        height: of the input, in pixels.
        width: of the input, in pixels.
    """

    path: Path
    labels: list[str]
    height: int
    width: int

    def preset(self, resampling: str) -> Preset:
        """The steps of ``ultralytics.data.augment.classify_transforms``, which predict uses."""
        sampling = sampling_of("bilinear", resampling, OPTION)
        sides = {"height": self.height, "width": self.width}
        if self.height == self.width:
            resized = resize_step("shortest_side", sampling, size=self.height)
        else:
            resized = resize_step("exact", sampling, **sides)
        *steps, _ = evaluation_steps(resized, self.height, self.width, (0, 0, 0), (1, 1, 1))
        return Preset(steps, None, f"{OPTION} {self.path}")


def read_yolo_export(path: Path) -> YoloExport:
    """Read the metadata of an export, a ``.torchscript`` or ``.onnx`` file.

    Raises:
        OperatorError: it is no export of a classifier.
    """
    refuse_other_format(path, OPTION, ".onnx", ".torchscript")
    metadata = _read_metadata(path)
    task = metadata.get("task")
    if task != "classify":
        raise OperatorError(f"{OPTION} {path} is a model for the task {task}, expected classify")
    try:
        names, sides = metadata["names"], metadata["imgsz"]
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
        by_index = {int(index): name for index, name in pairs}
        height, width = [int(side) for side in sides][-2:]
        labels = [by_index[index] for index in range(len(by_index))]
        channels = int(metadata.get("channels", 3))
    except (KeyError, TypeError, ValueError) as exc:
        raise OperatorError(f"{OPTION} {path}: names or imgsz of its metadata are wrong") from exc
    if channels != 3:
        raise OperatorError(f"{OPTION} {path} takes {channels} channels, expected 3")
    return YoloExport(path, check_labels(labels, path), height, width)


def _read_metadata(path: Path) -> dict[str, Any]:
    if path.suffix.lower() == ".onnx":
        return _read_onnx_metadata(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith(_METADATA))
            metadata = json.loads(archive.read(entry))
    except (OSError, zipfile.BadZipFile, ValueError, StopIteration) as exc:
        raise OperatorError(f"{OPTION} {path} {_why_no_export(path)}") from exc
    return metadata if isinstance(metadata, dict) else {}


def _read_onnx_metadata(path: Path) -> dict[str, Any]:
    """Ultralytics writes lists and dictionaries there as Python does."""
    texts = {entry.key: entry.value for entry in parse_onnx(path)[0].metadata_props}
    if "task" not in texts:
        raise OperatorError(f"{OPTION} {path} {_why_no_export(path)}")
    try:
        lists = {key: ast.literal_eval(texts[key]) for key in ("names", "imgsz") if key in texts}
    except (ValueError, SyntaxError):
        lists = {"names": None}
    return texts | lists


def _why_no_export(path: Path) -> str:
    if any(name.startswith("ultralytics.") for name in foreign_types(path)):
        return f"is a pickle, which could run any code: {ultralytics_export(path)}"
    return "is no export of Ultralytics: yolo export model=best.pt format=torchscript writes one"
