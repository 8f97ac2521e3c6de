"""The converted model of a package in the state folder, encrypted if the package is sealed."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.errors import PackageError
from app.inference.engines.base import EngineError
from app.inference.engines.openvino import ConvertedModel, import_openvino
from app.packages.package import Package
from app.packages.sealing import seal_model, unseal_model
from app.system.files import atomic_write

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
        with atomic_write(folder / SEALED_FILE) as stream:
            stream.write(_seal(model, package, folder))
        return
    with TemporaryDirectory(dir=folder) as drafts:
        model_path, weights_path = Path(drafts, MODEL_FILE), Path(drafts, WEIGHTS_FILE)
        _serialize(model, model_path, weights_path)
        # The weights first: a reader that finds model.xml must find them too.
        weights_path.replace(folder / WEIGHTS_FILE)
        model_path.replace(folder / MODEL_FILE)


def serialise(model: Any) -> tuple[bytes, bytes]:
    """Return the ``model.xml`` and the ``model.bin`` of an ``openvino.Model``.

    It passes through a temporary folder, so it must not be a sealed package's.

    Raises:
        EngineError: OpenVINO cannot write it.
    """
    with TemporaryDirectory() as drafts:
        model_path, weights_path = Path(drafts, MODEL_FILE), Path(drafts, WEIGHTS_FILE)
        _serialize(model, model_path, weights_path)
        return model_path.read_bytes(), weights_path.read_bytes()


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
    with (
        os.fdopen(os.memfd_create("model"), "rb") as model_file,
        os.fdopen(os.memfd_create("weights"), "rb") as weights_file,
    ):
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


def _serialize(model: Any, model_path: Path, weights_path: Path) -> None:
    try:
        import_openvino().serialize(model, str(model_path), str(weights_path))
    except RuntimeError as exc:
        raise EngineError("openvino cannot write the converted model") from exc
