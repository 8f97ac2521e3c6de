"""The marker segments of a JPEG file (ITU-T T.81, annex B)."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from app.errors import ImageDecodeFailed

MAX_SEGMENTS = 1024
"""Maximum number of marker segments: a colour profile or XMP of 4 MiB takes 64 of them."""

SOI_BYTES = 2

SOS, APP0, APP1, APP14 = 0xDA, 0xE0, 0xE1, 0xEE
_EOI = 0xD9
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start of frame, all kinds: 0xC0 to 0xCF without DHT, JPG and DAC."""

# The frames, DHT, DAC, DQT, DNL, DRI, COM, SOS and APP0 to APP15. libjpeg stops with an error at
# any other marker, so nothing that it would decode is refused.
_SEGMENTS = FRAMES | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xFE, SOS} | set(range(APP0, 0xF0))

# The next significant marker. Stuffed and fill bytes, TEM and RSTn are skipped in entropy-coded
# data and, as in libjpeg, in stray bytes between two segments.
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")


class Segment(NamedTuple):
    """Where a segment is.

    Attributes:
        marker: the marker's second byte.
        begin: of the marker.
        start: of the parameters, after the length.
        end: of the parameters.
    """

    marker: int
    begin: int
    start: int
    end: int


def walk_segments(data: bytes) -> Iterator[Segment]:
    """Yield each segment before the first end-of-image marker.

    Args:
        data: a file that starts with an SOI marker.

    Raises:
        ImageDecodeFailed: the file ends before the marker, has too many segments, or an
            unknown one.
    """
    position = SOI_BYTES
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
        yield Segment(marker, found.start(), start, position)
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
