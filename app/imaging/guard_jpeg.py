"""The structure of a JPEG file: its frame, its scans and its orientation."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.errors import ImageDecodeFailed
from app.imaging.header import ImageHeader, check_size
from app.imaging.jpeg_corrections import correct_jpeg
from app.imaging.jpeg_scans import ScanProgress
from app.imaging.jpeg_segments import APP1, FRAMES, SOS, Segment, walk_segments
from app.imaging.orientation import read_orientation

MAX_SCANS = 32
"""Maximum number of scans (SOS markers) in a file.

Each scan of a progressive file is a pass over the whole image, however few bytes it has:
5000 scans fit into 200 KB. libjpeg's own script writes 10 for colour and 18 for CMYK, optimised
files have up to 15. At 4096 x 4096 px a pass takes about 6 ms.
"""

# Huffman coding. The coefficients of 0xC2 are the only large buffer besides the image itself:
# 2 bytes per sample, 100 MB for a 4096 x 4096 px colour image.
_DECODABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_PROGRESSIVE_FRAME = 0xC2
# Of the time that a pixel of a baseline file takes: a progressive file without its scans, each
# of its scans, and each coded byte.
_PROGRESSIVE_PASSES, _PASS, _BYTE_PX = 2, 1 / 8, 4
_EXIF_NAME = b"Exif\0\0"
_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True)
class _Frame:
    """The frame header: the size, the component identifiers, and how scans send coefficients."""

    header: ImageHeader
    components: bytes
    is_progressive: bool


def guard_jpeg(data: bytes) -> tuple[ImageHeader, bytes]:
    """Check a JPEG file up to the end of its first image.

    Neither this function nor libjpeg reads beyond the first end-of-image marker (the other
    views of an MPO, a gain map). A thumbnail is inside an APP segment and is never mistaken
    for the frame.

    Args:
        data: a file that starts with an SOI marker.

    Returns:
        The header, and ``data`` itself, or a copy without harmless irregularities.

    Raises:
        InvalidImageSize: a side is too small or too large.
        ImageDecodeFailed: incomplete, corrupt or unsupported: lossless, hierarchical,
            arithmetic coding, 12 bits per sample, a height given by DNL.
    """
    frame: _Frame | None = None
    segments: list[Segment] = []
    scans = 0
    for segment in walk_segments(data):
        segments.append(segment)
        if segment.marker in FRAMES:
            if frame is not None:
                raise ImageDecodeFailed(f"jpg: a second frame header at byte {segment.start}")
            frame = _read_frame(data, segment)
        elif segment.marker == SOS:
            if frame is None:
                raise ImageDecodeFailed("jpg: a scan before the frame header")
            scans += 1
            if scans > MAX_SCANS:
                raise ImageDecodeFailed(f"jpg: more than {MAX_SCANS} scans")
    if frame is None or not scans:
        raise ImageDecodeFailed("jpg: no image before the end-of-image marker")
    _check_scans(data, segments, frame)
    orientation = _read_orientation(data, segments)
    corrected = correct_jpeg(data, segments, len(frame.components), frame.is_progressive)
    cost_px = _cost_px(frame, scans, len(data))
    return replace(frame.header, orientation=orientation, cost_px=cost_px), corrected


def _read_frame(data: bytes, segment: Segment) -> _Frame:
    """Read a frame header: precision, height, width, components (T.81, B.2.2)."""
    marker = segment.marker
    if segment.end - segment.start < 6:
        raise ImageDecodeFailed("jpg: the frame header is too short")
    precision, height, width, components = struct.unpack_from(">BHHB", data, segment.start)
    if height == 0:
        raise ImageDecodeFailed("jpg: no height in the frame header (DNL is not supported)")
    check_size(width, height)
    if marker not in _DECODABLE_FRAMES:
        raise ImageDecodeFailed(f"jpg: {_describe_frame(marker)} is not supported")
    if precision != 8:
        raise ImageDecodeFailed(f"jpg: {precision} bits per sample, only 8 are supported")
    if components not in (1, 3, 4):
        raise ImageDecodeFailed(f"jpg: {components} components, only 1, 3 or 4 are supported")
    identifiers = data[segment.start + 6 : segment.end : 3][:components]
    return _Frame(ImageHeader("jpg", width, height), identifiers, marker == _PROGRESSIVE_FRAME)


def _cost_px(frame: _Frame, scans: int, file_bytes: int) -> int:
    passes = _PROGRESSIVE_PASSES + scans * _PASS if frame.is_progressive else 1
    return int(frame.header.width * frame.header.height * passes) + file_bytes * _BYTE_PX


def _describe_frame(marker: int) -> str:
    kind = "lossless" if marker in (0xC3, 0xC7, 0xCB, 0xCF) else "hierarchical"
    return f"{'arithmetic' if marker >= 0xC9 else kind} coding (SOF{marker - 0xC0})"


def _check_scans(data: bytes, segments: Sequence[Segment], frame: _Frame) -> None:
    progress = ScanProgress(frame.components, frame.is_progressive)
    for segment in segments:
        if segment.marker == SOS:
            progress.add(data[segment.start : segment.end])
    if not progress.is_complete:
        # libjpeg decodes such a file to a blurred image without a warning.
        raise ImageDecodeFailed("jpg: the scans do not send all coefficients")


def _read_orientation(data: bytes, segments: Sequence[Segment]) -> int:
    """Read the orientation as Pillow does: EXIF segments joined, of several XMP the last."""
    exif: list[bytes] = []
    xmp = b""
    for segment in segments:
        if segment.marker == SOS:
            break
        if segment.marker == APP1:
            if data.startswith(_EXIF_NAME, segment.start, segment.end):
                exif.append(data[segment.start + len(_EXIF_NAME) : segment.end])
            elif data.startswith(_XMP_NAME, segment.start, segment.end):
                xmp = data[segment.start : segment.end]
    return read_orientation(b"".join(exif), xmp)
