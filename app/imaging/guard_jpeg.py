"""The structure of a JPEG file (ITU-T T.81, annex B), walked marker by marker."""

import re
import struct
from collections.abc import Iterator

from app.errors import ImageDecodeFailed
from app.imaging.header import ImageHeader, check_size

MAX_SCANS = 32
"""Maximum number of scans (SOS markers) in a file.

Each scan of a progressive file is a pass over the whole image, however few bytes it has:
5000 scans fit into 200 KB. libjpeg's own script writes 10 for colour and 18 for CMYK, optimised
files have up to 15. At 4096 x 4096 px a pass takes about 6 ms.
"""

MAX_SEGMENTS = 1024
"""Maximum number of marker segments: a colour profile or XMP of 4 MiB takes 64 of them."""

_EOI, _SOS = 0xD9, 0xDA
# Start of frame, all kinds: 0xC0 to 0xCF without DHT, JPG and DAC.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Huffman coding. The coefficients of 0xC2 are the only large buffer besides the image itself:
# 2 bytes per sample, 100 MB for a 4096 x 4096 px colour image.
_DECODABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
# The frames, DHT, DAC, DQT, DNL, DRI, COM, SOS and APP0 to APP15. libjpeg stops with an error at
# any other marker, so nothing that it would decode is refused.
_SEGMENTS = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xFE, _SOS} | set(range(0xE0, 0xF0))

# The next significant marker. Stuffed and fill bytes, TEM and RSTn are skipped in entropy-coded
# data and, as in libjpeg, in stray bytes between two segments.
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")


def guard_jpeg(data: bytes) -> tuple[ImageHeader, bytes]:
    """Check a JPEG file up to the end of its first image.

    Neither this function nor libjpeg reads beyond the first end-of-image marker (the other
    views of an MPO, a gain map). A thumbnail is inside an APP segment and is never mistaken
    for the frame.

    Args:
        data: a file that starts with an SOI marker.

    Returns:
        The header, and ``data`` itself.

    Raises:
        InvalidImageSize: a side is too small or too large.
        ImageDecodeFailed: incomplete, corrupt or unsupported: lossless, hierarchical,
            arithmetic coding, 12 bits per sample, a height given by DNL.
    """
    header: ImageHeader | None = None
    scans = 0
    for marker, start, end in _walk_segments(data):
        if marker in _FRAMES:
            if header is not None:
                raise ImageDecodeFailed(f"jpg: a second frame header at byte {start}")
            header = _read_frame(data, marker, start, end)
        elif marker == _SOS:
            if header is None:
                raise ImageDecodeFailed("jpg: a scan before the frame header")
            scans += 1
            if scans > MAX_SCANS:
                raise ImageDecodeFailed(f"jpg: more than {MAX_SCANS} scans")
    if header is None or not scans:
        raise ImageDecodeFailed("jpg: no image before the end-of-image marker")
    return header, data


def _walk_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end of the parameters) for each segment before EOI."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            raise ImageDecodeFailed("jpg: ends before its end-of-image marker")
        marker, start = data[found.end() - 1], found.end() + 2
        if marker == _EOI:
            return
        if marker not in _SEGMENTS:
            raise ImageDecodeFailed(f"jpg: unexpected marker 0x{marker:02x} at byte {start - 4}")
        position = _end_of_segment(data, marker, start)
        yield marker, start, position
    raise ImageDecodeFailed(f"jpg: more than {MAX_SEGMENTS} marker segments")


def _end_of_segment(data: bytes, marker: int, start: int) -> int:
    if start > len(data):
        raise ImageDecodeFailed("jpg: ends before its end-of-image marker")
    length = int.from_bytes(data[start - 2 : start])
    # The length counts its own two bytes (T.81, B.1.1.4).
    if length < 2:
        raise ImageDecodeFailed(
            f"jpg: segment 0x{marker:02x} at byte {start - 4} has length {length}"
        )
    if start - 2 + length > len(data):
        raise ImageDecodeFailed(f"jpg: ends inside segment 0x{marker:02x} at byte {start - 4}")
    return start - 2 + length


def _read_frame(data: bytes, marker: int, start: int, end: int) -> ImageHeader:
    """Read a frame header: precision, height, width, components (T.81, B.2.2)."""
    if end - start < 6:
        raise ImageDecodeFailed("jpg: the frame header is too short")
    precision, height, width, components = struct.unpack_from(">BHHB", data, start)
    if height == 0:
        raise ImageDecodeFailed("jpg: no height in the frame header (DNL is not supported)")
    check_size(width, height)
    if marker not in _DECODABLE_FRAMES:
        raise ImageDecodeFailed(f"jpg: {_describe_frame(marker)} is not supported")
    if precision != 8:
        raise ImageDecodeFailed(f"jpg: {precision} bits per sample, only 8 are supported")
    if components not in (1, 3, 4):
        raise ImageDecodeFailed(f"jpg: {components} components, only 1, 3 or 4 are supported")
    return ImageHeader("jpg", width, height)


def _describe_frame(marker: int) -> str:
    kind = "lossless" if marker in (0xC3, 0xC7, 0xCB, 0xCF) else "hierarchical"
    return f"{'arithmetic' if marker >= 0xC9 else kind} coding (SOF{marker - 0xC0})"
