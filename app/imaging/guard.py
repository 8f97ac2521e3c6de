"""Checks of an untrusted image file before OpenCV reads it.

OpenCV decodes more formats than the service accepts, trusts the sizes it reads, and a small
file can crash it or keep it busy for minutes. The checks read only the compressed bytes: their
time is bounded by the length of the file, and no pixel is decoded.
"""

from collections.abc import Callable

from app.errors import ImageDecodeFailed
from app.imaging.guard_bmp import guard_bmp
from app.imaging.guard_jpeg import guard_jpeg
from app.imaging.guard_png import guard_png
from app.imaging.header import ImageHeader

_GUARDS: tuple[tuple[bytes, Callable[[bytes], tuple[ImageHeader, bytes]]], ...] = (
    (b"\xff\xd8\xff", guard_jpeg),
    (b"\x89PNG\r\n\x1a\n", guard_png),
    (b"BM", guard_bmp),
)

# Only for the detail of an error: (offset, magic, name); the first match is named.
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GIF8", "gif"),
    (8, b"WEBP", "webp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (4, b"ftypavi", "avif"),
    (4, b"ftyp", "heic"),
    (4, b"jP  \r\n", "jpeg 2000"),
    (0, b"\xff\x4f\xff\x51", "jpeg 2000"),
    (0, b"\xff\x0a", "jpeg xl"),
    (0, b"%PDF", "pdf"),
    (0, b"8BPS", "psd"),
    (0, b"\0\0\1\0", "ico"),
    (0, b"PK\3\4", "zip"),
    (0, b"<svg", "svg"),
    (0, b"<", "xml or html"),
    (0, b"{", "json"),
)


def guard(data: bytes) -> tuple[ImageHeader, bytes]:
    """Check a file's format, then its size, then its structure.

    Args:
        data: a whole file, from an untrusted source.

    Returns:
        The header, and the bytes to decode: ``data`` itself, or a file without harmless
        irregularities, of a png its default image alone, mostly uncompressed.

    Raises:
        InvalidImageSize: a side is outside MIN_SIDE_PX to MAX_SIDE_PX.
        ImageDecodeFailed: no jpg, png or bmp, or an incomplete, corrupt or unsupported one.
    """
    for magic, guard_format in _GUARDS:
        if data.startswith(magic):
            return guard_format(data)
    raise ImageDecodeFailed(_describe_foreign(data))


def _describe_foreign(data: bytes) -> str:
    if not data:
        return "the file is empty"
    for offset, magic, name in _FOREIGN:
        if data.startswith(magic, offset):
            return f"not a jpg, png or bmp file (it looks like {name})"
    return "not a jpg, png or bmp file"
