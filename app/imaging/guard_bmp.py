"""The headers of a BMP file: BITMAPFILEHEADER and the variants of BITMAPINFOHEADER."""

import struct
from dataclasses import dataclass

from app.errors import ImageDecodeFailed
from app.imaging.header import ImageHeader, check_size
from app.reporting.counts import pluralise

_FILE_HEADER_BYTES = 14
_OFFSET_FIELD = 10
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
_MASKS_BYTES = 12
_DEFAULT_MASKS = frozenset({(0xFF0000, 0xFF00, 0xFF), (0, 0, 0)})
_BYTE_MASKS = frozenset({0xFF, 0xFF00, 0xFF0000, 0xFF000000})
_FOUR_MASKS_HEADER_BYTES = 56
_INFO_HEADER_BYTES = 40

# Of a 16-bit pixel: five bits each, as without masks, or six for green. Pillow reads no others.
_MASKS_555 = (0x7C00, 0x3E0, 0x1F)
_MASKS_16_BITS = frozenset({_MASKS_555, (0xF800, 0x7E0, 0x1F)})


@dataclass(frozen=True)
class Bitmap:
    """The headers of a file."""

    header_bytes: int
    pixels_offset: int
    width: int
    height: int
    is_bottom_up: bool
    depth: int
    compression: int
    colours: int

    @property
    def row_bytes(self) -> int:
        """Of a stored row, which is padded to four bytes."""
        return (self.width * self.depth + 31) // 32 * 4

    def masks(self, data: bytes) -> tuple[int, int, int]:
        """The bits of red, green and blue in a pixel.

        Raises:
            ImageDecodeFailed: the file ends before them.
        """
        if self.compression == _BI_RGB:
            return _MASKS_555
        if len(data) < _MASKS_OFFSET + _MASKS_BYTES:
            raise ImageDecodeFailed("bmp: ends inside its colour masks")
        red, green, blue = struct.unpack_from("<III", data, _MASKS_OFFSET)
        return red, green, blue


def guard_bmp(data: bytes) -> tuple[ImageHeader, bytes]:
    """Check a BMP file's headers, and that the file holds all of its pixels.

    Args:
        data: a file that starts with ``BM``.

    Returns:
        The header, and ``data`` itself, or a copy with the pixel offset and the last padding
        that some writers leave out. A negative height (the rows run from the top) is returned
        as its absolute value.

    Raises:
        InvalidImageSize: a side is too small or too large.
        ImageDecodeFailed: incomplete, corrupt or unsupported: run-length coding, an embedded
            JPEG or PNG, masks that OpenCV does not apply.
    """
    bitmap = read_bitmap(data)
    check_size(bitmap.width, bitmap.height)
    _check_coding(data, bitmap)
    header = ImageHeader("bmp", bitmap.width, bitmap.height, cost_px=bitmap.width * bitmap.height)
    return header, _complete(data, bitmap)


def read_bitmap(data: bytes) -> Bitmap:
    """Read a BMP file's headers.

    Raises:
        ImageDecodeFailed: they are incomplete or of an unknown kind.
    """
    if len(data) < _FILE_HEADER_BYTES + _CORE_HEADER_BYTES:
        raise ImageDecodeFailed(f"bmp: no header in {pluralise(len(data), 'byte')}")
    pixels_offset, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes not in _HEADER_BYTES:
        raise ImageDecodeFailed(f"bmp: a header of {header_bytes} bytes is not supported")
    if len(data) < _FILE_HEADER_BYTES + header_bytes:
        raise ImageDecodeFailed("bmp: ends inside its header")
    if header_bytes == _CORE_HEADER_BYTES:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        return Bitmap(header_bytes, pixels_offset, width, height, True, depth, _BI_RGB, 0)
    width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    (colours,) = struct.unpack_from("<I", data, 46)
    return Bitmap(
        header_bytes, pixels_offset, width, abs(height), height > 0, depth, compression, colours
    )


def _check_coding(data: bytes, bitmap: Bitmap) -> None:
    if bitmap.depth not in _DEPTHS:
        raise ImageDecodeFailed(f"bmp: {bitmap.depth} bits per pixel are not supported")
    if bitmap.compression == _BI_BITFIELDS and bitmap.depth in (16, 32):
        _check_masks(data, bitmap)
    elif bitmap.compression != _BI_RGB:
        name = _COMPRESSIONS.get(bitmap.compression, str(bitmap.compression))
        raise ImageDecodeFailed(f"bmp: compression {name} at {bitmap.depth} bits is not supported")


def _check_masks(data: bytes, bitmap: Bitmap) -> None:
    masks = bitmap.masks(data)
    if masks in (_MASKS_16_BITS if bitmap.depth == 16 else _DEFAULT_MASKS):
        return
    is_wide = bitmap.depth == 32 and bitmap.header_bytes >= _FOUR_MASKS_HEADER_BYTES
    if not is_wide or not _BYTE_MASKS.issuperset(masks):
        names = ", ".join(f"{mask:#x}" for mask in masks)
        raise ImageDecodeFailed(
            f"bmp: the colour masks {names} of {bitmap.depth}-bit pixels are not supported"
        )


def _complete(data: bytes, bitmap: Bitmap) -> bytes:
    """Check that the pixels are there, and add the offset and the padding that Pillow can spare."""
    start = _FILE_HEADER_BYTES + bitmap.header_bytes + _palette_bytes(bitmap)
    offset = bitmap.pixels_offset
    if offset == 0:
        has_masks = bitmap.compression == _BI_BITFIELDS
        offset = start + (
            _MASKS_BYTES if has_masks and bitmap.header_bytes == _INFO_HEADER_BYTES else 0
        )
        data = data[:_OFFSET_FIELD] + struct.pack("<I", offset) + data[_OFFSET_FIELD + 4 :]
    elif offset < start:
        raise ImageDecodeFailed("bmp: the pixels start inside the header or the palette")
    end = offset + bitmap.row_bytes * bitmap.height
    padding_bytes = bitmap.row_bytes - (bitmap.width * bitmap.depth + 7) // 8
    if len(data) < end - padding_bytes:
        raise ImageDecodeFailed(f"bmp: ends at byte {len(data)}, its pixels at byte {end}")
    return data.ljust(end, b"\0")


def _palette_bytes(bitmap: Bitmap) -> int:
    if bitmap.depth > 8:
        return 0
    colours = bitmap.colours or 1 << bitmap.depth
    if colours > 1 << 8:
        raise ImageDecodeFailed(f"bmp: a palette of {colours} colours")
    return colours * (3 if bitmap.header_bytes == _CORE_HEADER_BYTES else 4)
