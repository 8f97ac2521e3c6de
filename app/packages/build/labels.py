"""The labels of a package, from the usual file formats."""

import json
from pathlib import Path
from typing import Any

from app.errors import OperatorError
from app.system.files import is_foreign


def read_label_source(path: Path) -> list[str]:
    """Read the label of each class, by class index.

    Args:
        path: a text file with one label a line; a JSON file with a list of labels, with
            ``{"0": "cat", ...}`` (index to label) or with ``{"cat": 0, ...}``
            (torchvision's ``class_to_idx``); or an ImageFolder, whose classes are its
            folders in the order of their names.

    Raises:
        OperatorError: it cannot be read, or has no label for an index.
    """
    if path.is_dir():
        entries = (entry for entry in path.iterdir() if entry.is_dir())
        names = sorted(e.name for e in entries if not is_foreign(e.name))
        if not names:
            raise OperatorError(f"labels {path}: expected a folder for each class, found none")
        return names
    text = read_text(path, f"labels {path}")
    if path.suffix == ".json":
        return _from_json(text, path)
    return [line.strip() for line in text.rstrip().splitlines()]


def read_text(path: Path, called: str) -> str:
    """Read a UTF-8 file, with or without a byte-order mark.

    Raises:
        OperatorError: it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise OperatorError(f"{called} cannot be read: {reason}") from exc


def _from_json(text: str, path: Path) -> list[str]:
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise OperatorError(f"labels {path} is not JSON: {exc}") from exc
    names = document if isinstance(document, list) else _by_index(document, path)
    if not names or not all(isinstance(name, str) for name in names):
        raise OperatorError(
            f"labels {path}: expected a list of texts, or an object of index and label"
        )
    return [name.strip() for name in names]


def _by_index(document: Any, path: Path) -> list[Any]:
    pairs = document.items() if isinstance(document, dict) else ()
    labels = {int(key): value for key, value in pairs if str(key).isdigit()}
    if len(labels) < len(pairs):
        labels = {value: key for key, value in pairs if isinstance(value, int)}
    missing = next((index for index in range(len(pairs)) if index not in labels), None)
    if missing is not None:
        raise OperatorError(f"labels {path}: no label has the index {missing}")
    return [labels[index] for index in range(len(pairs))]
