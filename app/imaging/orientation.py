"""The EXIF orientation of an image, by the rules of Pillow's ``ImageOps.exif_transpose``."""

import re
import struct
from collections.abc import Iterator

_EXIF_PREFIX = re.compile(rb"^(Exif\0\0){1,2}")
# The first four bytes of a TIFF header; Pillow accepts some that swap the magic number too.
_BYTE_ORDERS = {
    **dict.fromkeys((b"MM\0*", b"MM*\0", b"MM\0+"), ">"),
    **dict.fromkeys((b"II*\0", b"II\0*"), "<"),
}
_TIFF_HEADER_BYTES = 8
_ENTRY_BYTES = 12
_ORIENTATION_TAG = 0x0112

# By TIFF type; a rational is two numbers. Pillow applies an orientation of any type but BYTE, ASCII
# and UNDEFINED, which are text to it.
_FORMATS = ("", "s", "s", "H", "L", "LL", "b", "s", "h", "l", "ll", "f", "d", "L", "", "", "Q")
_SIZES = {kind: struct.calcsize("=" + code) for kind, code in enumerate(_FORMATS)}
_INLINE_BYTES = 4
"""A longer value is elsewhere, at the offset that the entry holds."""

_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(="|>)([0-9])')


def read_orientation(exif: bytes, xmp: bytes) -> int:
    r"""Read the orientation from a file's metadata.

    Args:
        exif: the EXIF block, a TIFF file, with or without ``Exif\0\0`` before it; may be empty.
        xmp: the XMP document, which counts if the EXIF block has no orientation; may be empty.

    Returns:
        1 to 8; 1 also for a malformed block, with which Pillow fails.
    """
    tiff = _EXIF_PREFIX.sub(b"", exif)
    value = _read_tag(tiff) if tiff else None
    if value is None and (found := _XMP_ORIENTATION.search(xmp)):
        value = int(found[2])
    return int(value) if value is not None and value in range(1, 9) else 1


def _read_tag(tiff: bytes) -> float | None:
    """Return the orientation in the first directory, 0 if it is no number, None without one."""
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None or len(tiff) < _TIFF_HEADER_BYTES:
        return 0
    for tag, kind, offset in _read_directory(tiff, order):
        if tag == _ORIENTATION_TAG:
            return _read_number(tiff, order, kind, offset)
    return None


def _read_directory(tiff: bytes, order: str) -> Iterator[tuple[int, int, int]]:
    """Yield (tag, type, offset of the value) for the entries that Pillow reads."""
    (start,) = struct.unpack_from(order + "L", tiff, 4)
    if start + 2 > len(tiff):
        return
    (entries,) = struct.unpack_from(order + "H", tiff, start)
    end = min(start + 2 + entries * _ENTRY_BYTES, len(tiff) - _ENTRY_BYTES + 1)
    seen: set[int] = set()
    long_values_bytes = 0
    for entry in range(start + 2, end, _ENTRY_BYTES):
        tag, kind, count, offset = struct.unpack_from(order + "HHLL", tiff, entry)
        size = count * _SIZES.get(kind, 0)
        if not size or tag in seen:
            continue
        if size <= _INLINE_BYTES:
            offset = entry + _ENTRY_BYTES - _INLINE_BYTES
        else:
            # Pillow skips what exceeds the block in total, and stops at a value that is cut.
            long_values_bytes += size
            if long_values_bytes > len(tiff):
                continue
            if offset + size > len(tiff):
                return
        seen.add(tag)
        yield tag, kind, offset


def _read_number(tiff: bytes, order: str, kind: int, offset: int) -> float:
    if _FORMATS[kind] == "s":
        return 0
    number, *denominator = struct.unpack_from(order + _FORMATS[kind], tiff, offset)
    if denominator == [0]:
        return 0
    return float(number / denominator[0] if denominator else number)
