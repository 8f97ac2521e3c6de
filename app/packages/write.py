"""Writing a model package so that it appears whole or not at all."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.packages.manifest import FORMAT, MANIFEST_FILE
from app.packages.package import Package, load_package, read_package
from app.packages.staging import staged_folder

MODEL_FILE = "model.pt"
LABELS_FILE = "labels.txt"


@dataclass(frozen=True)
class PackageDraft:
    """What a builder knows about a package.

    Attributes:
        name: the deploy name.
        version: the version.
        input: the manifest's ``input`` as JSON values.
        preprocess: the manifest's ``preprocess`` as JSON values.
        output: the manifest's ``output`` as JSON values.
        labels: the name of each class, by class index.
        save_model: writes the TorchScript file to the path that it is given.
    """

    name: str
    version: str
    input: dict[str, Any]
    preprocess: list[dict[str, Any]]
    output: dict[str, Any]
    labels: Sequence[str]
    save_model: Callable[[Path], None]


def write_package(weights_dir: Path, draft: PackageDraft) -> Package:
    """Write a package to ``weights/NAME/VERSION`` and check it on the way.

    A version never changes once it is there, so that its digest names its content.

    Args:
        weights_dir: the folder ``weights``; it is made when it is not there.
        draft: what to write.

    Raises:
        PackageError: the version exists already, or the draft makes no valid package; then
            nothing is left behind.
    """
    target = weights_dir / draft.name / draft.version
    with staged_folder(target) as folder:
        draft.save_model(folder / MODEL_FILE)
        labels = "".join(f"{label}\n" for label in draft.labels)
        (folder / LABELS_FILE).write_bytes(labels.encode())
        (folder / MANIFEST_FILE).write_bytes(_manifest_bytes(draft, folder))
        read_package(folder)
    return load_package(target)


def _manifest_bytes(draft: PackageDraft, folder: Path) -> bytes:
    document = {
        "format": FORMAT,
        "name": draft.name,
        "version": draft.version,
        "model": _file_reference(folder / MODEL_FILE),
        "labels": _file_reference(folder / LABELS_FILE),
        "input": draft.input,
        "preprocess": draft.preprocess,
        "output": draft.output,
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _file_reference(path: Path) -> dict[str, str]:
    with path.open("rb") as stream:
        return {"file": path.name, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
