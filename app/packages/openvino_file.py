"""A model of OpenVINO in one file: a zip archive of its ``model.xml`` and ``model.bin``.

One file, so that sealing, signing and archives treat it as any other model. It is not compressed,
and each part is read with the size that it says, so that it cannot exhaust the memory.
"""

import io
import zipfile
from pathlib import Path

from app.errors import PackageError
from app.packages.torchscript_file import check_unpacked_size

_NAMES = ("model.xml", "model.bin")
_DATE = (1980, 1, 1, 0, 0, 0)
"""The same for all, so that the same model gives the same bytes."""


def write_openvino_file(path: Path, xml: bytes, weights: bytes) -> None:
    """Write the two parts of a model into one file.

    Raises:
        OSError: it cannot be written.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in zip(_NAMES, (xml, weights), strict=True):
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)


def read_openvino_file(source: Path | io.BytesIO) -> tuple[bytes, bytes]:
    """Read the ``model.xml`` and the ``model.bin`` of a file, or of a sealed one's bytes.

    Raises:
        PackageError: it is not what write_openvino_file writes, or see check_unpacked_size.
    """
    check_unpacked_size(source)
    try:
        with zipfile.ZipFile(source) as archive:
            xml, weights = (archive.read(name) for name in _NAMES)
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as exc:
        raise PackageError(
            str(source) if isinstance(source, Path) else "a sealed model",
            f"expected a zip archive of {' and '.join(_NAMES)}, as package optimise writes it",
        ) from exc
    return xml, weights
