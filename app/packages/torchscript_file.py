"""A TorchScript file, which is a zip archive, before torch reads it."""

import io
import zipfile
from pathlib import Path

from app.errors import PackageError

MAX_UNPACKED_BYTES = 8 * 1024**3

MAX_EXPANSION = 10
"""torch.jit.save does not compress, and the weights of a trained model hardly shrink: an archive
that unpacks to more is made to exhaust the memory."""


def check_unpacked_size(source: Path | io.BytesIO) -> None:
    """Refuse a TorchScript file that would take far more memory than its size.

    Raises:
        PackageError: it unpacks to too much, or is a damaged archive.
    """
    if not zipfile.is_zipfile(source):
        return  # nor does torch read it
    name = source if isinstance(source, Path) else "a sealed model"
    size = source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes
    try:
        with zipfile.ZipFile(source) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception as exc:
        # zipfile raises many types for a damaged archive.
        raise PackageError(name, "expected a TorchScript file, found a damaged archive") from exc
    if isinstance(source, io.BytesIO):
        source.seek(0)
    limit = min(MAX_UNPACKED_BYTES, MAX_EXPANSION * size)
    if unpacked > limit:
        raise PackageError(
            name,
            f"{size} bytes unpack to {unpacked}, at most {limit} are allowed; save the model "
            "again with torch.jit.save or torch.export.save, which do not compress",
        )
