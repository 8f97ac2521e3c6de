"""The converted model of a package in the state folder, encrypted if the package is sealed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from app.errors import PackageError
from app.inference.engines.base import EngineError
from app.inference.engines.openvino import ConvertedModel, import_openvino
from app.packages.package import Package
from app.packages.sealing import seal_model, unseal_model

MODEL_FILE = "model.xml"
WEIGHTS_FILE = "model.bin"
SEALED_FILE = "model.sealed"

_LENGTH_BYTES = 8
"""Of the prefix that gives the length of ``model.xml`` in the sealed bytes of the two files."""


def write_converted_model(model: Any, package: Package, folder: Path) -> None:
    """Write a converted model for the workers to load.

    Args:
        model: an ``openvino.Model``.
        package: the package of the model; a sealed one's content key encrypts it.
        folder: see SelectionStore.

    Raises:
        EngineError: OpenVINO cannot write it.
        OSError: the folder cannot be written.
    """
    if package.sealed:
        _replace(folder / SEALED_FILE, _seal(model, package, folder))
        return
    staged = folder / f".{os.getpid()}-{MODEL_FILE}"
    _serialize(model, staged, staged.with_suffix(".bin"))
    # The weights first: a reader that finds model.xml must find them too.
    staged.with_suffix(".bin").replace(folder / WEIGHTS_FILE)
    staged.replace(folder / MODEL_FILE)


def read_converted_model(package: Package, folder: Path) -> ConvertedModel:
    """Return what write_converted_model has written, decrypted.

    Raises:
        EngineError: it is missing or damaged.
    """
    if not package.sealed:
        return folder / MODEL_FILE
    assert package.content_key is not None  # noqa: S101 - locked packages are refused earlier
    try:
        plain = unseal_model(
            folder / SEALED_FILE, package.content_key, package.manifest, _purpose(package)
        ).getbuffer()
    except PackageError as exc:
        raise EngineError("the converted model cannot be opened") from exc
    end = _LENGTH_BYTES + int.from_bytes(plain[:_LENGTH_BYTES], "little")
    return bytes(plain[_LENGTH_BYTES:end]), bytes(plain[end:])


def _seal(model: Any, package: Package, folder: Path) -> bytes:
    assert package.content_key is not None  # noqa: S101 - locked packages are refused earlier
    # OpenVINO writes to paths only; these are links to memory.
    with _file_in_memory() as model_file, _file_in_memory() as weights_file:
        with TemporaryDirectory(dir=folder) as links:
            paths = Path(links, MODEL_FILE), Path(links, WEIGHTS_FILE)
            for path, file in zip(paths, (model_file, weights_file), strict=True):
                path.symlink_to(f"/proc/{os.getpid()}/fd/{file.fileno()}")
            _serialize(model, *paths)
        xml, weights = model_file.read(), weights_file.read()
    plain = len(xml).to_bytes(_LENGTH_BYTES, "little") + xml + weights
    try:
        return seal_model(plain, package.content_key, package.manifest, _purpose(package))
    except OverflowError as exc:
        raise EngineError("the converted model is too large to be encrypted") from exc


def _purpose(package: Package) -> str:
    """Authenticated by the encryption, so that no other file with the same key is accepted."""
    return f"openvino-{package.digest}"


@contextmanager
def _file_in_memory() -> Iterator[BinaryIO]:
    with os.fdopen(os.memfd_create("model"), "rb") as file:
        yield file


def _serialize(model: Any, model_path: Path, weights_path: Path) -> None:
    try:
        import_openvino().serialize(model, str(model_path), str(weights_path))
    except RuntimeError as exc:
        raise EngineError("openvino cannot write the converted model") from exc


def _replace(path: Path, data: bytes) -> None:
    staged = path.with_name(f".{os.getpid()}-{path.name}")
    staged.write_bytes(data)
    staged.replace(path)
