"""The headers of a BMP file: BITMAPFILEHEADER and the variants of BITMAPINFOHEADER."""

import struct
from dataclasses import dataclass

from app.errors import ImageDecodeFailed
from app.imaging.header import ImageHeader, check_size

_FILE_HEADER_BYTES = 14
_CORE_HEADER_BYTES = 12
# BITMAPCOREHEADER; BITMAPINFOHEADER, then with three or four masks; OS/2 2.x; V4; V5.
_HEADER_BYTES = frozenset({12, 40, 52, 56, 64, 108, 124})
_DEPTHS = frozenset({1, 4, 8, 16, 24, 32})

_BI_RGB, _BI_BITFIELDS = 0, 3
# Refused by name: some versions of OpenCV decode run-length coding to garbage without an error,
# and none decodes the others.
_COMPRESSIONS = {1: "RLE8", 2: "RLE4", 4: "JPEG", 5: "PNG", 6: "ALPHABITFIELDS"}

# Red, green and blue of a 32-bit pixel. OpenCV applies other masks only from headers with a
# fourth mask, and only if each is one whole byte; it decodes the rest wrongly without an error.
_MASKS_OFFSET = 54
_DEFAULT_MASKS = frozenset({(0xFF0000, 0xFF00, 0xFF), (0, 0, 0)})
_BYTE_MASKS = frozenset({0xFF, 0xFF00, 0xFF0000, 0xFF000000})
_FOUR_MASKS_HEADER_BYTES = 56


@dataclass(frozen=True)
class _Bitmap:
    header_bytes: int
    pixels_offset: int
    width: int
    height: int
    depth: int
    compression: int
    colours: int


def guard_bmp(data: bytes) -> tuple[ImageHeader, bytes]:
    """Check a BMP file's headers, and that the file holds all of its pixels.

    Args:
        data: a file that starts with ``BM``.

    Returns:
        The header, and ``data`` itself. A negative height (the rows run from the top) is
        returned as its absolute value.

    Raises:
        InvalidImageSize: a side is too small or too large.
        ImageDecodeFailed: incomplete, corrupt or unsupported: run-length coding, an embedded
            JPEG or PNG, masks that OpenCV does not apply.
    """
    bitmap = _read_bitmap(data)
    check_size(bitmap.width, bitmap.height)
    _check_coding(data, bitmap)
    _check_extent(data, bitmap)
    return ImageHeader("bmp", bitmap.width, bitmap.height), data


def _read_bitmap(data: bytes) -> _Bitmap:
    if len(data) < _FILE_HEADER_BYTES + _CORE_HEADER_BYTES:
        raise ImageDecodeFailed(f"bmp: {len(data)} bytes hold no header")
    pixels_offset, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes not in _HEADER_BYTES:
        raise ImageDecodeFailed(f"bmp: a header of {header_bytes} bytes is not supported")
    if len(data) < _FILE_HEADER_BYTES + header_bytes:
        raise ImageDecodeFailed("bmp: ends inside its header")
    if header_bytes == _CORE_HEADER_BYTES:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        return _Bitmap(header_bytes, pixels_offset, width, height, depth, _BI_RGB, 0)
    width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    (colours,) = struct.unpack_from("<I", data, 46)
    return _Bitmap(header_bytes, pixels_offset, width, abs(height), depth, compression, colours)


def _check_coding(data: bytes, bitmap: _Bitmap) -> None:
    if bitmap.depth not in _DEPTHS:
        raise ImageDecodeFailed(f"bmp: {bitmap.depth} bits per pixel are not supported")
    if bitmap.compression == _BI_BITFIELDS and bitmap.depth in (16, 32):
        if bitmap.depth == 32:
            _check_masks(data, bitmap)
    elif bitmap.compression != _BI_RGB:
        name = _COMPRESSIONS.get(bitmap.compression, str(bitmap.compression))
        raise ImageDecodeFailed(f"bmp: compression {name} at {bitmap.depth} bits is not supported")


def _check_masks(data: bytes, bitmap: _Bitmap) -> None:
    if len(data) < _MASKS_OFFSET + 12:
        raise ImageDecodeFailed("bmp: ends inside its colour masks")
    masks = struct.unpack_from("<III", data, _MASKS_OFFSET)
    if masks in _DEFAULT_MASKS:
        return
    if bitmap.header_bytes < _FOUR_MASKS_HEADER_BYTES or not _BYTE_MASKS.issuperset(masks):
        raise ImageDecodeFailed("bmp: these colour masks are not supported")


def _check_extent(data: bytes, bitmap: _Bitmap) -> None:
    if bitmap.pixels_offset < _FILE_HEADER_BYTES + bitmap.header_bytes + _palette_bytes(bitmap):
        raise ImageDecodeFailed("bmp: the pixels start inside the header or the palette")
    # Rows are padded to four bytes.
    row_bytes = (bitmap.width * bitmap.depth + 31) // 32 * 4
    end = bitmap.pixels_offset + row_bytes * bitmap.height
    if len(data) < end:
        raise ImageDecodeFailed(f"bmp: ends at byte {len(data)}, its pixels at byte {end}")


def _palette_bytes(bitmap: _Bitmap) -> int:
    if bitmap.depth > 8:
        return 0
    colours = bitmap.colours or 1 << bitmap.depth
    if colours > 1 << 8:
        raise ImageDecodeFailed(f"bmp: a palette of {colours} colours")
    return colours * (3 if bitmap.header_bytes == _CORE_HEADER_BYTES else 4)
