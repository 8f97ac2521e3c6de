"""The manifest of a model package: what its other files do not say."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.errors import PackageError
from app.imaging.header import OrientationRule
from app.imaging.steps import (
    CenterCrop,
    CenterCropFraction,
    Color,
    Normalize,
    ResizeExact,
    ResizeKeepRatio,
    ResizeLetterbox,
    ResizeShortestSide,
    Sampling,
    Scale,
    Step,
)
from app.packages.consistency import find_contradiction
from app.packages.schema import check_schema, check_steps, parse_json
from app.system.files import read_regular

MANIFEST_FILE = "manifest.json"
FORMAT = 1
"""The manifest format that this server reads."""


@dataclass(frozen=True)
class FileRef:
    """A file in the package's folder and the SHA-256 of its bytes, in hexadecimal."""

    file: str
    sha256: str


ModelFormat = Literal["torchscript", "onnx", "openvino"]
Precision = Literal["float32", "bfloat16", "int8"]
Layout = Literal["NCHW", "NHWC"]
InputDtype = Literal["float32", "float16", "uint8"]


@dataclass(frozen=True)
class ModelRef(FileRef):
    """The model's file and its format.

    ``openvino`` is a model that ``classifyd package optimise`` has made: it is served by OpenVINO
    on the CPU in ``precision``, whatever the settings say.
    """

    format: ModelFormat = "torchscript"
    precision: Precision = "float32"

    def computed_precision(self, setting: str) -> str:
        """The precision in which it is computed, given the setting."""
        return self.precision if self.format == "openvino" else setting


@dataclass(frozen=True)
class InputSpec:
    """The model's input; sides in pixels.

    Engines take float32 (N, channels, height, width) whatever the layout and the dtype are, and
    convert it. ``batch`` is 1 for a model that takes one image at a time, else None.
    """

    height: int
    width: int
    channels: int
    layout: Layout
    dtype: InputDtype
    batch: int | None = None


@dataclass(frozen=True)
class OutputSpec:
    """The meaning of the model's output, (N, classes).

    ``name`` chooses one of several outputs of an ONNX file.
    """

    kind: Literal["logits", "probabilities"]
    task: Literal["single_label", "multi_label"]
    classes: int
    name: str | None = None


@dataclass(frozen=True)
class GoldenSample:
    """An image file and the labels of its highest reference scores, highest first."""

    file: FileRef
    top: tuple[str, ...]


@dataclass(frozen=True)
class GoldenSpec:
    """Images with known scores.

    Attributes:
        tolerance: the largest tolerated difference of a score.
        scores: float32, little-endian, (samples, classes) in C order, without a header.
    """

    tolerance: float
    scores: FileRef
    samples: tuple[GoldenSample, ...]


@dataclass(frozen=True)
class LicenceSpec:
    """The contact of the publisher whose licence the package needs, and the publisher's key.

    The key is a raw Ed25519 public key in base64.
    """

    publisher: str
    publisher_key: str


@dataclass(frozen=True)
class Manifest:
    """A checked manifest; ``docs/package.md`` describes each field.

    Attributes:
        preprocess_json: the steps as the manifest writes them, for people.
    """

    format: int
    name: str
    version: str
    model: ModelRef
    labels: FileRef
    input: InputSpec
    preprocess: tuple[Step, ...]
    output: OutputSpec
    golden: GoldenSpec | None = None
    scaled_decode: bool = False
    orientation: OrientationRule = "exif"
    licence: LicenceSpec | None = None
    training: dict[str, Any] | None = None
    preprocess_json: tuple[dict[str, Any], ...] = field(default=(), compare=False, repr=False)
    optimisation: dict[str, Any] | None = None


def read_manifest(path: Path) -> tuple[Manifest, bytes]:
    """Read and check a manifest file; return the manifest and the file's bytes.

    Raises:
        PackageError: the file cannot be read, or see parse_manifest.
    """
    try:
        raw = read_regular(path)
    except OSError as exc:
        raise PackageError(path, f"cannot be read: {exc.strerror}") from exc
    return parse_manifest(raw, str(path)), raw


def dump_manifest(document: dict[str, Any]) -> bytes:
    """Serialise a manifest's JSON values."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def parse_manifest(raw: bytes, file: str) -> Manifest:
    """Parse and check a manifest's bytes; see parse_json.

    Raises:
        PackageError: it is not JSON, violates the schema, or contradicts itself.
    """
    document = parse_json(raw, file)
    if isinstance(document, dict) and document.get("format", FORMAT) != FORMAT:
        # Checked first, as the schema's errors would mislead about another format.
        raise PackageError(file, f"expected {FORMAT}, the format of this server", field="format")
    check_schema(document, file)
    manifest = _to_manifest(document)
    spec = manifest.input
    contradiction = find_contradiction(manifest.preprocess, spec.height, spec.width, spec.channels)
    if contradiction is not None:
        raise PackageError(file, contradiction.problem, field=contradiction.field)
    for place, problem in _wrong_for_format(manifest):
        raise PackageError(file, problem, field=place)
    if manifest.model.format == "openvino" and manifest.golden is None:
        problem = "expected the scores that were measured, without which an optimised model is none"
        raise PackageError(file, problem, field="golden")
    if (manifest.output.task, manifest.output.classes) == ("single_label", 1):
        problem = "the only class would always have the score 1; expected multi_label"
        raise PackageError(file, problem, field="output.task")
    return manifest


def _wrong_for_format(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Find what the model's format, or the dtype of its input, does not allow."""
    spec = manifest.input
    if manifest.model.format == "torchscript":
        fields = (("layout", spec.layout, "NCHW"), ("dtype", spec.dtype, "float32"))
        for field, found, expected in fields:
            if found != expected:
                yield f"input.{field}", f'found "{found}", expected "{expected}" for TorchScript'
        if manifest.output.name is not None:
            yield "output.name", "TorchScript has one output, without a name"
    if spec.dtype == "uint8" and any(
        isinstance(step, Scale | Normalize) for step in manifest.preprocess
    ):
        yield "input.dtype", "uint8 takes grey levels 0 to 255: expected no scale and no normalize"


def parse_preprocess(steps: Any, file: str) -> tuple[Step, ...]:
    """Parse the JSON values of a manifest's ``preprocess`` on their own.

    Raises:
        PackageError: a step violates the schema; consistency of the steps is not checked.
    """
    check_steps(steps, file)
    return tuple(_to_step(step) for step in steps)


def _to_manifest(document: dict[str, Any]) -> Manifest:
    spec, output = document["input"], document["output"]
    # 224.0 is an integer in JSON Schema too.
    height, width, channels = (int(spec[key]) for key in ("height", "width", "channels"))
    return Manifest(
        format=FORMAT,
        name=document["name"],
        version=document["version"],
        model=ModelRef(**document["model"]),
        labels=FileRef(**document["labels"]),
        input=InputSpec(
            height, width, channels, spec["layout"], spec["dtype"], 1 if "batch" in spec else None
        ),
        preprocess=tuple(_to_step(step) for step in document["preprocess"]),
        output=OutputSpec(
            output["kind"], output["task"], int(output["classes"]), output.get("name")
        ),
        golden=_to_golden(document["golden"]) if "golden" in document else None,
        scaled_decode=document.get("scaled_decode", False),
        orientation=document.get("orientation", "exif"),
        licence=LicenceSpec(**document["licence"]) if "licence" in document else None,
        training=document.get("training"),
        preprocess_json=tuple(document["preprocess"]),
        optimisation=document.get("optimisation"),
    )


def _to_golden(golden: dict[str, Any]) -> GoldenSpec:
    return GoldenSpec(
        tolerance=float(golden["tolerance"]),
        scores=FileRef(**golden["scores"]),
        samples=tuple(
            GoldenSample(FileRef(sample["file"], sample["sha256"]), tuple(sample["top"]))
            for sample in golden["samples"]
        ),
    )


def _to_step(step: dict[str, Any]) -> Step:
    match step:
        case {"step": "color"}:
            return Color(step["order"])
        case {"step": "center_crop", "fraction_of_shortest_side": fraction}:
            return CenterCropFraction(float(fraction), step.get("rounding", "half_even"))
        case {"step": "center_crop"}:
            size = int(step["height"]), int(step["width"])
            pad = tuple(map(int, step["pad"]))
            return CenterCrop(*size, pad, step.get("rounding", "half_even"))
        case {"step": "resize"}:
            return _to_resize(step)
        case {"step": "scale"}:
            return Scale(float(step["multiply"]), float(step["add"]))
        case _:
            return Normalize(tuple(map(float, step["mean"])), tuple(map(float, step["std"])))


def _to_resize(step: dict[str, Any]) -> Step:
    sampling = Sampling(step["filter"], step["antialias"], step["resampling"])
    if step["mode"] == "shortest_side":
        return ResizeShortestSide(int(step["size"]), sampling)
    height, width = int(step["height"]), int(step["width"])
    if step["mode"] == "exact":
        return ResizeExact(height, width, sampling)
    if step["mode"] in {"contain", "cover"}:
        return ResizeKeepRatio(height, width, step["mode"] == "cover", sampling)
    return ResizeLetterbox(height, width, tuple(map(int, step["pad"])), sampling)
