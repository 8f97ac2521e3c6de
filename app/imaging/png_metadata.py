"""The metadata of a PNG file that can tell its orientation, by the rules of Pillow."""

import zlib

from app.imaging.orientation import read_orientation

MAX_TEXT_BYTES = 1 << 20
"""Of a compressed text, as in Pillow."""

_XMP, _RAW_PROFILE = b"XML:com.adobe.xmp", b"Raw profile type exif"
_RAW_PROFILE_HEADER_LINES = 3


class PngMetadata:
    """Collects the chunks; of several of a kind the last counts."""

    def __init__(self) -> None:
        self.is_after_image = False
        self._exif: bytes | None = None
        self._texts: dict[bytes, tuple[bool, bytes]] = {}

    def add(self, kind: bytes, body: memoryview) -> None:
        """Take account of a chunk."""
        if kind == b"IDAT":
            self.is_after_image = True
        elif kind == b"eXIf":
            self._exif = bytes(body)
        elif kind in {b"tEXt", b"zTXt", b"iTXt"}:
            keyword, _, value = bytes(body).partition(b"\0")
            if keyword in {_XMP, _RAW_PROFILE}:
                self._texts[keyword] = _split_text(kind, value)

    @property
    def orientation(self) -> int:
        """The orientation, 1 to 8."""
        exif = self._exif
        if exif is None:
            exif = _read_raw_profile(self._text(_RAW_PROFILE))
        return read_orientation(exif, self._text(_XMP))

    def _text(self, keyword: bytes) -> bytes:
        is_compressed, value = self._texts.get(keyword, (False, b""))
        return _inflate(value) if is_compressed else value


def _split_text(kind: bytes, value: bytes) -> tuple[bool, bytes]:
    """Tell whether a text is compressed, and return it without the fields before it."""
    if kind == b"tEXt":
        return False, value
    if kind == b"zTXt":
        return True, value[1:]
    # Compression flag and method, then language and translated keyword, both ended by 0.
    return value[:1] != b"\0", value[2:].split(b"\0", 2)[-1]


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def _read_raw_profile(text: bytes) -> bytes:
    """Decode the hexadecimal profile that ImageMagick writes below a line with its length."""
    lines = text.split(b"\n")[_RAW_PROFILE_HEADER_LINES:]
    try:
        return bytes.fromhex(b"".join(lines).decode("latin-1"))
    except ValueError:
        return b""
