"""The converted model of a package in the state folder: encrypted where the package is sealed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from app.errors import PackageError
from app.inference.engines.base import EngineError
from app.inference.engines.openvino import Converted, import_openvino
from app.packages.package import Package
from app.packages.sealing import seal_model, unseal_model

MODEL_FILE = "model.xml"
WEIGHTS_FILE = "model.bin"
SEALED_FILE = "model.sealed"

_LENGTH_BYTES = 8
"""Before the sealed bytes of the two files: how many of them are the first's."""


def write_converted(model: Any, package: Package, folder: Path) -> None:
    """Keep a converted model for the workers to come.

    Args:
        model: an ``openvino.Model``.
        package: whose model it is; of a sealed one, encrypted with its content key.
        folder: that of the package and requirements, see ChoiceStore.

    Raises:
        EngineError: OpenVINO cannot write it.
        OSError: the folder cannot be written.
    """
    if package.sealed:
        _replace(folder / SEALED_FILE, _seal(model, package))
        return
    staged = folder / f".{os.getpid()}-{MODEL_FILE}"
    _serialize(model, staged, staged.with_suffix(".bin"))
    # The weights first: whoever finds the description must find them too.
    staged.with_suffix(".bin").replace(folder / WEIGHTS_FILE)
    staged.replace(folder / MODEL_FILE)


def find_converted(package: Package, folder: Path) -> Converted:
    """Give a converted model as write_converted has kept it.

    Raises:
        EngineError: it is not there, or was damaged.
    """
    if not package.sealed:
        return folder / MODEL_FILE
    assert package.content_key is not None  # noqa: S101 - a locked package is refused before
    try:
        plain = unseal_model(
            folder / SEALED_FILE, package.content_key, package.manifest, _form(package)
        ).getbuffer()
    except PackageError as exc:
        raise EngineError("the converted model cannot be opened") from exc
    end = _LENGTH_BYTES + int.from_bytes(plain[:_LENGTH_BYTES], "little")
    return bytes(plain[_LENGTH_BYTES:end]), bytes(plain[end:])


def _seal(model: Any, package: Package) -> bytes:
    assert package.content_key is not None  # noqa: S101 - a locked package is refused before
    # OpenVINO writes to paths alone; these lead to memory.
    with _file_in_memory() as description, _file_in_memory() as weights:
        with TemporaryDirectory() as links:
            paths = Path(links, MODEL_FILE), Path(links, WEIGHTS_FILE)
            for path, file in zip(paths, (description, weights), strict=True):
                path.symlink_to(f"/proc/{os.getpid()}/fd/{file.fileno()}")
            _serialize(model, *paths)
        first, second = description.read(), weights.read()
    head = len(first).to_bytes(_LENGTH_BYTES, "little")
    try:
        return seal_model(
            head + first + second, package.content_key, package.manifest, _form(package)
        )
    except OverflowError as exc:
        raise EngineError("the converted model is too large to be encrypted") from exc


def _form(package: Package) -> str:
    """Bound into the encryption, so that no other file of the same key can stand in."""
    return f"openvino-{package.digest}"


@contextmanager
def _file_in_memory() -> Iterator[BinaryIO]:
    with os.fdopen(os.memfd_create("model"), "rb") as file:
        yield file


def _serialize(model: Any, description: Path, weights: Path) -> None:
    try:
        import_openvino().serialize(model, str(description), str(weights))
    except RuntimeError as exc:
        raise EngineError("openvino cannot write the converted model") from exc


def _replace(path: Path, data: bytes) -> None:
    staged = path.with_name(f".{os.getpid()}-{path.name}")
    staged.write_bytes(data)
    staged.replace(path)
