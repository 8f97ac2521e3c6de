"""Opens a source: a folder, a list of paths, a tar of photos, or a prefix of an S3 bucket."""

from pathlib import Path

from app.batch.files import list_folder, read_list
from app.batch.photos import Source
from app.batch.tar import list_tar
from app.errors import OperatorError

S3_SCHEME = "s3://"
_HEAD_BYTES = 512

EXPECTED = "expected a folder, a list of paths, a tar (plain or gzip) or s3://BUCKET/PREFIX"

_PHOTO_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"BM")
_GZIP_MAGIC = b"\x1f\x8b"
_OTHER_MAGIC = (b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")
"""zip, bzip2, xz, zstd and 7z."""

_TAR_MAGIC = slice(257, 262)
"""``ustar`` in a tar's first block (POSIX.1-1988, pax interchange format)."""


def open_source(text: str, out: Path) -> Source:
    """List the photos of a source.

    Args:
        text: a path, or ``s3://BUCKET/PREFIX``.
        out: the results folder, which a folder source leaves out.

    Raises:
        OperatorError: it is none of the kinds, cannot be read or has no photos.
    """
    source = _open(text, out)
    if not source.photos:
        raise OperatorError(f"{source.name}: found no photos; {EXPECTED}")
    return source


def _open(text: str, out: Path) -> Source:
    if text.startswith(S3_SCHEME):
        # Imported here: pyarrow is an extra.
        from app.batch.s3 import list_bucket

        return list_bucket(text)
    path = Path(text).absolute()
    try:
        if path.is_dir():
            return list_folder(path, out)
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as exc:
        raise OperatorError(f"{path} cannot be read: {exc.strerror}; {EXPECTED}") from exc
    if head.startswith(_PHOTO_MAGIC):
        raise OperatorError(f"{path} is one photo; {EXPECTED}, or use classifyd predict")
    if head.startswith(_OTHER_MAGIC):
        raise OperatorError(f"{path} is another kind of archive; {EXPECTED}")
    if head.startswith(_GZIP_MAGIC) or head[_TAR_MAGIC] == b"ustar" or path.suffix == ".tar":
        return list_tar(path, head.startswith(_GZIP_MAGIC))
    return read_list(path)
