"""Writes a model package, which appears complete or not at all."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.imaging.header import OrientationRule
from app.imaging.preprocess import FloatArray
from app.packages.manifest import FORMAT, MANIFEST_FILE, ModelFormat, Precision, dump_manifest
from app.packages.package import Package, load_package, read_package
from app.packages.staging import staged_folder

MODEL_FILE = "model.pt"
MODEL_FILES: dict[ModelFormat, str] = {
    "torchscript": MODEL_FILE,
    "onnx": "model.onnx",
    "openvino": "model.zip",
}
LABELS_FILE = "labels.txt"
GOLDEN_SCORES_FILE = "golden.f32"
TOP_LABELS = 5
"""Labels in each golden sample, which reveal a label file in another order."""


@dataclass(frozen=True)
class GoldenDraft:
    """Images with their scores.

    Attributes:
        tolerance: maximum difference of a score.
        images: the bytes of image files.
        scores: from the reference or the training code, float32 (images, classes).
        difference: how both differ by more than the tolerance; empty if they do not.
    """

    tolerance: float
    images: Sequence[bytes]
    scores: FloatArray
    difference: str = ""


@dataclass(frozen=True)
class PackageDraft:
    """The content of a package to write.

    Input, preprocess and output are JSON values of the manifest. The labels are by class index;
    ``save_model`` writes the model file to a path. ``training`` and ``optimisation`` are
    documentation, JSON values that the server does not read.
    """

    name: str
    version: str
    input: dict[str, Any]
    preprocess: list[dict[str, Any]]
    output: dict[str, Any]
    labels: Sequence[str]
    save_model: Callable[[Path], object]
    model_format: ModelFormat = "torchscript"
    precision: Precision = "float32"
    golden: GoldenDraft | None = None
    scaled_decode: bool = False
    orientation: OrientationRule = "exif"
    training: dict[str, Any] | None = None
    optimisation: dict[str, Any] | None = None


def write_package(
    weights_dir: Path,
    draft: PackageDraft,
    check: Callable[[Package], object] = lambda _: None,
    replace: bool = False,
) -> Package:
    """Write a package to ``weights/NAME/VERSION`` and check it.

    A version never changes once it exists, unless ``replace`` says so, so that its digest
    identifies its content.

    The check gets the complete package before it is put in place, and may raise.

    Raises:
        PackageError: the version exists already, the draft is not a valid package, or the
            check raised it; nothing is left behind.
    """
    target = weights_dir / draft.name / draft.version
    with staged_folder(target, replace) as folder:
        draft.save_model(folder / MODEL_FILES[draft.model_format])
        labels = "".join(f"{label}\n" for label in draft.labels)
        (folder / LABELS_FILE).write_bytes(labels.encode())
        golden = _write_golden(draft, folder)
        (folder / MANIFEST_FILE).write_bytes(_manifest_bytes(draft, folder, golden))
        check(read_package(folder))
    return load_package(target)


def _write_golden(draft: PackageDraft, folder: Path) -> dict[str, Any]:
    """Write the golden files and return their part of the manifest."""
    golden = draft.golden
    if golden is None:
        return {}
    golden.scores.astype("<f4").tofile(folder / GOLDEN_SCORES_FILE)
    samples = []
    for index, (data, scores) in enumerate(zip(golden.images, golden.scores, strict=True)):
        # The suffix is for people; the server identifies formats by the first bytes.
        path = folder / f"golden-{index}{_suffix(data)}"
        path.write_bytes(data)
        top = np.argsort(-scores, kind="stable")[:TOP_LABELS]
        samples.append({**_file_reference(path), "top": [draft.labels[label] for label in top]})
    scores_file = _file_reference(folder / GOLDEN_SCORES_FILE)
    return {"golden": {"tolerance": golden.tolerance, "scores": scores_file, "samples": samples}}


def _suffix(data: bytes) -> str:
    return {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"BM": ".bmp"}.get(data[:2], "")


def _manifest_bytes(draft: PackageDraft, folder: Path, golden: dict[str, Any]) -> bytes:
    model = _file_reference(folder / MODEL_FILES[draft.model_format])
    if draft.model_format != "torchscript":
        model["format"] = draft.model_format
    if draft.model_format == "openvino":
        model["precision"] = draft.precision
    document = {
        "format": FORMAT,
        "name": draft.name,
        "version": draft.version,
        "model": model,
        "labels": _file_reference(folder / LABELS_FILE),
        "input": draft.input,
        "preprocess": draft.preprocess,
        "output": draft.output,
        **golden,
    }
    if draft.scaled_decode:
        document["scaled_decode"] = True
    if draft.orientation != "exif":
        document["orientation"] = draft.orientation
    if draft.training is not None:
        document["training"] = draft.training
    if draft.optimisation is not None:
        document["optimisation"] = draft.optimisation
    return dump_manifest(document)


def _file_reference(path: Path) -> dict[str, str]:
    with path.open("rb") as stream:
        return {"file": path.name, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
