"""Images with their known labels."""

import csv
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import OperatorError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
LABEL_SEPARATOR = ";"
"""Between the labels of one image in a CSV file, for a multi-label package."""


@dataclass(frozen=True)
class Sample:
    """An image file and the labels that are right for it."""

    path: Path
    labels: tuple[str, ...]


def read_dataset(path: Path, known: Sequence[str], several: bool) -> list[Sample]:
    """List the images of a folder or a CSV file.

    Args:
        path: a folder with a folder for each label; or a CSV file with the columns ``file``
            (relative to the CSV file) and ``label``.
        known: the labels of the package.
        several: whether a CSV label may be several, with semicolons between.

    Raises:
        OperatorError: there are no images, a label is not one of the package, or a file of
            the CSV is not there.
    """
    samples = _from_folder(path) if path.is_dir() else _from_csv(path, several)
    if not samples:
        raise OperatorError(f"{path}: found no images; expected a folder for each label, or a CSV")
    names = set(known)
    for sample in samples:
        for label in sample.labels:
            if label not in names:
                raise OperatorError(_unknown(path, sample, label, known))
    return samples


def _unknown(path: Path, sample: Sample, label: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(label, known[:100_000], n=3)
    hint = f"; near are {', '.join(near)}" if near else ""
    return f"{path}: the label {label!r} of {sample.path.name} is none of the package's{hint}"


def _from_folder(path: Path) -> list[Sample]:
    return [
        Sample(file, (folder.name,))
        for folder in sorted(path.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]


def _from_csv(path: Path, several: bool) -> list[Sample]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise OperatorError(f"{path}: expected a CSV file with the columns file and label")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise OperatorError(f"{path} cannot be read as a CSV file in UTF-8: {exc}") from exc
    return [_from_row(path, number, row, several) for number, row in enumerate(rows, start=2)]


def _from_row(path: Path, number: int, row: dict[str, str], several: bool) -> Sample:
    file = path.parent / (row["file"] or "")
    if not file.is_file():
        raise OperatorError(f"{path}: line {number}: the file {row['file']!r} is not there")
    label = row["label"] or ""
    parts = label.split(LABEL_SEPARATOR) if several else [label]
    return Sample(file, tuple(part.strip() for part in parts if part.strip() or not several))
