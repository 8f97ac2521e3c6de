"""A model package, checked as far as possible without running its model."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.errors import LockedPackage, PackageError
from app.imaging.decode import Reduction
from app.imaging.header import ImageHeader
from app.imaging.preprocess import FloatArray, Preprocessor
from app.imaging.reduction import largest_reduction
from app.packages.manifest import MANIFEST_FILE, FileRef, GoldenSpec, Manifest, read_manifest
from app.packages.sealing import check_licence_block, unseal_model
from app.reporting.counts import pluralise
from app.system.files import open_regular, read_regular

ModelSource = Path | io.BytesIO
"""What a model is loaded from: a file, or the decrypted bytes of a sealed one."""

FORBIDDEN_IN_LABEL = "error_code"
"""Clients recognise an error by this text in the response."""


@dataclass(frozen=True)
class Golden:
    """The package's images with known scores.

    Attributes:
        tolerance: the largest tolerated difference of a score.
        top: for each image the labels of its highest scores, highest first.
        scores: float32 (images, classes), from the reference.
    """

    tolerance: float
    images: tuple[Path, ...]
    top: tuple[tuple[str, ...], ...]
    scores: FloatArray


@dataclass(frozen=True)
class Package:
    """A checked package.

    Attributes:
        labels: the name of each class, by class index.
        model_path: the model file, whose SHA-256 is right.
        preprocessor: its steps, compiled.
        digest: SHA-256 of the manifest's bytes in hexadecimal. It identifies the content of
            the whole package, as the manifest has the SHA-256 of every other file.
        golden: its images with known scores, None if it has none.
        content_key: decrypts the model of a sealed package; None until a licence provides it.
    """

    folder: Path
    manifest: Manifest
    labels: tuple[str, ...]
    model_path: Path
    preprocessor: Preprocessor
    digest: str
    golden: Golden | None = None
    content_key: bytes | None = field(default=None, repr=False)

    @property
    def sealed(self) -> bool:
        """Whether the model file is encrypted; plain bytes of it must never reach a disk."""
        return self.manifest.licence is not None

    def model_source(self) -> ModelSource:
        """Return the model file, or the bytes of a sealed one, decrypted in memory.

        Raises:
            LockedPackage: it is sealed and has no content key.
            PackageError: see unseal_model.
        """
        if not self.sealed:
            return self.model_path
        if self.content_key is None:
            raise LockedPackage(
                self.folder, "the package is sealed, and no licence has opened it", field="licence"
            )
        return unseal_model(self.model_path, self.content_key, self.manifest)

    def reduction(self, header: ImageHeader) -> Reduction:
        """Return by how much an image may be reduced in decoding; 1 if not allowed."""
        if not self.manifest.scaled_decode:
            return 1
        return largest_reduction(self.manifest.preprocess, header)


def load_package(folder: Path) -> Package:
    """Check a package in its place in the weights folder, ``NAME/VERSION``.

    Raises:
        PackageError: the folders are not named as in the manifest, or see read_package.
    """
    package = read_package(folder)
    # Not resolve(): the target of a symbolic link may have other names.
    place = folder.absolute()
    for part, found in (("version", place.name), ("name", place.parent.name)):
        declared = getattr(package.manifest, part)
        if declared != found:
            raise PackageError(
                folder / MANIFEST_FILE,
                f"found {declared!r}, expected {found!r}, the name of its folder",
                field=part,
            )
    return package


def read_package(folder: Path) -> Package:
    """Check a package in any folder.

    Raises:
        PackageError: a file is missing or has another SHA-256, the manifest is wrong, or
            the labels are not one clean line for each class.
        TamperedPackage: it is sealed and its manifest was changed.
    """
    manifest, raw = read_manifest(folder / MANIFEST_FILE)
    check_licence_block(folder, manifest, raw)
    model_path = _check_file(folder, "model", manifest.model)
    labels_path = _check_file(folder, "labels", manifest.labels)
    return Package(
        folder=folder,
        manifest=manifest,
        labels=read_labels(labels_path, manifest.output.classes),
        model_path=model_path,
        preprocessor=Preprocessor(manifest.preprocess),
        digest=hashlib.sha256(raw).hexdigest(),
        golden=_read_golden(folder, manifest.golden, manifest.output.classes),
    )


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    r"""Read a file with one label a line.

    A byte-order mark and ``\r\n`` are accepted, as Windows editors write both. Duplicate
    labels are accepted too: ImageNet has two cranes.

    Raises:
        PackageError: the file is not UTF-8, a line is empty, has white space around the
            label or contains ``error_code``, or the number of lines is not ``classes``.
    """
    try:
        text = read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise PackageError(path, f"expected UTF-8, byte {exc.start} is not") from exc
    lines = split_labels(text)
    for number, label in enumerate(lines, start=1):
        problem = label_problem(label)
        if problem:
            raise PackageError(path, problem, field=f"line {number}")
    if len(lines) != classes:
        found = pluralise(len(lines), "label")
        raise PackageError(path, f"found {found}, expected {classes} (output.classes)")
    return tuple(lines)


def split_labels(text: str) -> list[str]:
    r"""Split a label file into lines, which end with ``\n`` or ``\r\n`` and with nothing else."""
    return text.removesuffix("\n").replace("\r\n", "\n").removesuffix("\r").split("\n")


def label_problem(label: str) -> str:
    """Say why a text cannot be a label; empty if it can."""
    if not label.strip():
        return "found an empty line, expected a label on each line"
    if label != label.strip():
        return "found white space around the label, expected none"
    if "\n" in label or "\r" in label:
        return f"found a line break in {label!r}, expected one line"
    if FORBIDDEN_IN_LABEL in label:
        return f"found the text {FORBIDDEN_IN_LABEL}, by which clients recognise an error"
    return ""


def _read_golden(folder: Path, spec: GoldenSpec | None, classes: int) -> Golden | None:
    if spec is None:
        return None
    path = _check_file(folder, "golden.scores", spec.scores)
    expected_bytes = len(spec.samples) * classes * 4
    if path.stat().st_size != expected_bytes:
        raise PackageError(
            path,
            f"found {path.stat().st_size} bytes, expected {expected_bytes}: "
            f"{pluralise(len(spec.samples), 'image')} x {pluralise(classes, 'class')} x 4 bytes",
        )
    scores = np.fromfile(path, dtype="<f4").astype(np.float32)
    return Golden(
        tolerance=spec.tolerance,
        images=tuple(
            _check_file(folder, f"golden.samples[{index}]", sample.file)
            for index, sample in enumerate(spec.samples)
        ),
        top=tuple(sample.top for sample in spec.samples),
        scores=scores.reshape(len(spec.samples), classes),
    )


def _check_file(folder: Path, field: str, reference: FileRef) -> Path:
    path = folder / reference.file
    try:
        with open_regular(path) as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as exc:
        raise PackageError(
            folder / MANIFEST_FILE,
            f"{reference.file} cannot be read: {exc.strerror}; expected a file beside the manifest",
            field=f"{field}.file",
        ) from exc
    if found != reference.sha256:
        raise PackageError(
            path, f"found SHA-256 {found}, expected {reference.sha256} ({field}.sha256)"
        )
    return path
