"""The labels of a package, from the usual file formats."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from app.errors import OperatorError
from app.packages.package import label_problem, split_labels
from app.packages.schema import parse_json
from app.system.files import is_foreign

LabelOrder = Literal["text", "natural"]
"""How folders are numbered: 1, 10, 2 (torchvision, Keras, fastai) or 1, 2, 10 (timm)."""

_NUMBERED = re.compile(r"\s*(\d+)\s*[,;:\t ]\s*\S")


def read_label_source(path: Path, order: LabelOrder | None = None) -> list[str]:
    """Read the label of each class, by class index.

    Args:
        path: a text file with one label a line; a JSON file with a list of labels, with
            ``{"0": "cat", ...}`` (index to label) or with ``{"cat": 0, ...}``
            (torchvision's ``class_to_idx``); or an ImageFolder, whose classes are its folders.
        order: of the folders' names; None if it must not matter.

    Raises:
        OperatorError: it cannot be read, has no label for an index, or has a label that a
            package cannot have.
    """
    if path.is_dir():
        return check_labels(_from_folders(path, order), path)
    text = read_text(path, f"labels {path}")
    if path.suffix == ".json":
        return check_labels(_from_json(text, path), path)
    labels = [line.strip() for line in split_labels(text.rstrip())]
    _refuse_numbers(labels, path)
    return check_labels(labels, path)


def check_labels(labels: Sequence[Any], path: Path) -> list[str]:
    """Return the labels without white space around them.

    Raises:
        OperatorError: there is none, or one is not a text that a package can have as a label.
    """
    if not labels or not all(isinstance(label, str) for label in labels):
        raise OperatorError(
            f"labels {path}: expected a list of texts, or an object of index and label"
        )
    stripped = [label.strip() for label in labels]
    for index, label in enumerate(stripped):
        if problem := label_problem(label):
            raise OperatorError(f"labels {path}: class {index}: {problem}")
    return stripped


def read_text(path: Path, called: str) -> str:
    """Read a UTF-8 file, with or without a byte-order mark.

    Raises:
        OperatorError: it cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise OperatorError(f"{called} cannot be read: {reason}") from exc


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        OperatorError: it cannot be read or is something else.
    """
    document = parse_json(read_text(path, str(path)).encode(), str(path))
    if not isinstance(document, dict):
        raise OperatorError(f"{path}: expected a JSON object")
    return document


def _from_folders(path: Path, order: LabelOrder | None) -> list[str]:
    names = sorted(e.name for e in path.iterdir() if e.is_dir() and not is_foreign(e.name))
    natural = sorted(names, key=_natural_key)
    if order is None and natural != names:
        first, second = next(
            pair for pair in zip(names, natural, strict=True) if pair[0] != pair[1]
        )
        raise OperatorError(
            f"labels {path}: class {names.index(first)} is {first!r} for torchvision, Keras and "
            f"fastai, but {second!r} for timm's scripts: give --label-order text, or --label-order "
            "natural if timm numbered the classes"
        )
    if not names:
        raise OperatorError(f"labels {path}: expected a folder for each class, found none")
    return natural if order == "natural" else names


def _natural_key(name: str) -> list[int | str]:
    """The order of ``timm.utils.natural_key``."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]


def _refuse_numbers(labels: Sequence[str], path: Path) -> None:
    """Ask about lines such as ``0,cat``: nobody wants to read that number in an answer."""
    matches = [_NUMBERED.match(label) for label in labels]
    # A table may have a line of headings.
    matches = matches[1:] if len(matches) > 2 and matches[0] is None else matches
    numbers = [int(match[1]) for match in matches if match]
    counted = any(numbers == list(range(start, start + len(matches))) for start in (0, 1))
    if counted and len(numbers) > 1:
        raise OperatorError(
            f"labels {path}: every line begins with its number, such as {labels[-1]!r}: give the "
            "labels alone, in the order of the numbers, or a JSON list to keep the numbers"
        )


def _from_json(text: str, path: Path) -> list[Any]:
    document = parse_json(text.encode(), f"labels {path}")
    if isinstance(document, list):
        return document
    pairs = document.items() if isinstance(document, dict) else ()
    # The values tell which side is the index: a class may be called "10".
    if all(type(value) is int for _, value in pairs):
        labels = {value: name for name, value in pairs}
    else:
        labels = {int(key): value for key, value in pairs if key.isdecimal()}
    missing = next((index for index in range(len(pairs)) if index not in labels), None)
    if missing is not None:
        raise OperatorError(f"labels {path}: no label has the index {missing}")
    return [labels[index] for index in range(len(pairs))]
