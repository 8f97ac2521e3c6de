"""Datasets: images with their correct labels."""

import csv
import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import OperatorError
from app.system.files import is_foreign

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
LABEL_SEPARATOR = ";"
"""In a CSV file for a multi-label package."""

MAX_NAMED = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """An image file and its correct labels."""

    path: Path
    labels: tuple[str, ...]


def read_dataset(path: Path, known: Sequence[str], task: str) -> list[Sample]:
    """List the images of a folder with one folder per label, or of a CSV file.

    Foreign files and folders are passed over.

    The CSV file has the columns ``file``, relative to it, and ``label``. For the task
    ``multi_label`` it may name several labels, separated by semicolons.

    Raises:
        OperatorError: there are no images, the package does not have a label, or a file of
            the CSV file does not exist.
    """
    is_multi_label = task == "multi_label"
    samples = _from_folder(path) if path.is_dir() else _from_csv(path, is_multi_label)
    if not samples:
        raise OperatorError(f"{path}: found no images; expected a folder per label, or a CSV file")
    names = set(known)
    for sample in samples:
        for label in set(sample.labels) - names:
            raise OperatorError(_describe_unknown(path, sample, label, known))
    return samples


def read_image(path: Path) -> bytes:
    """Read an image file.

    Raises:
        OperatorError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise OperatorError(f"{path} cannot be read: {exc.strerror}") from exc


def _describe_unknown(path: Path, sample: Sample, label: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(label, known[:100_000], n=3)
    hint = f"; similar are {', '.join(near)}" if near else ""
    return f"{path}: {label!r} of {sample.path.name} is not a label of the package{hint}"


def _from_folder(path: Path) -> list[Sample]:
    samples, foreign = [], set()
    for file in sorted(path.glob("*/**/*")):
        parts = file.relative_to(path).parts
        foreign_parts = list(filter(is_foreign, parts))
        foreign.update(foreign_parts)
        is_image = file.suffix.lower() in SUFFIXES and file.is_file()
        if is_image and not foreign_parts and not parts[0].startswith("."):
            samples.append(Sample(file, (parts[0],)))
    if foreign:
        more = ["..."] if len(foreign) > MAX_NAMED else []
        _log.warning("in %s, passed over: %s", path, ", ".join(sorted(foreign)[:MAX_NAMED] + more))
    return samples


def _from_csv(path: Path, is_multi_label: bool) -> list[Sample]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise OperatorError(f"{path}: expected a CSV file with the columns file and label")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise OperatorError(f"{path} cannot be read as a CSV file in UTF-8: {exc}") from exc
    return [_from_row(path, line, row, is_multi_label) for line, row in enumerate(rows, start=2)]


def _from_row(path: Path, line: int, row: dict[str, str], is_multi_label: bool) -> Sample:
    file = path.parent / (row["file"] or "")
    if not file.is_file():
        raise OperatorError(f"{path}: line {line}: the file {row['file']!r} does not exist")
    label = row["label"] or ""
    parts = label.split(LABEL_SEPARATOR) if is_multi_label else [label]
    return Sample(file, tuple(part.strip() for part in parts if part.strip() or not is_multi_label))
