"""Corrections of harmless irregularities in a JPEG file.

libjpeg warns about them as it does about damage, and reports only the first warning of a file.
Once they are corrected, a warning means damage.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.imaging.jpeg_segments import APP0, APP14, SOI_BYTES, SOS, Segment

_ADOBE_TRANSFORMS = {3: 1, 4: 2}
"""By the number of components: YCbCr and YCCK, which libjpeg assumes for an unknown value."""

_ALL_COEFFICIENTS = b"\0\x3f\0"  # first, last, bits


class _Correction(NamedTuple):
    start: int
    end: int
    replacement: bytes


def correct_jpeg(
    data: bytes, segments: Sequence[Segment], components: int, is_progressive: bool
) -> bytes:
    """Correct stray bytes between segments and parameters that libjpeg ignores.

    Args:
        data: the file.
        segments: its segments up to the end of the image.
        components: how many the image has.
        is_progressive: whether a scan header selects coefficients.

    Returns:
        ``data`` itself if there is nothing to correct; it decodes to the same pixels.
    """
    pieces: list[bytes] = []
    done = 0
    corrections = [*_drop_stray_bytes(data, segments)]
    for segment in segments:
        corrections += _correct_parameters(data, segment, components, is_progressive)
    for start, end, replacement in sorted(corrections):
        pieces += [data[done:start], replacement]
        done = end
    return b"".join([*pieces, data[done:]]) if pieces else data


def _drop_stray_bytes(data: bytes, segments: Sequence[Segment]) -> Iterator[_Correction]:
    previous = Segment(0, 0, 0, SOI_BYTES)
    for segment in segments:
        # After a scan header come the coded coefficients, elsewhere at most fill bytes.
        is_coded = previous.marker == SOS
        if not is_coded and data[previous.end : segment.begin].strip(b"\xff"):
            yield _Correction(previous.end, segment.begin, b"")
        previous = segment


def _correct_parameters(
    data: bytes, segment: Segment, components: int, is_progressive: bool
) -> Iterator[_Correction]:
    marker, start, parameters = segment.marker, segment.start, data[segment.start : segment.end]
    if marker == APP0 and parameters.startswith(b"JFIF\0") and parameters[5:6] != b"\1":
        # The major version.
        yield _Correction(start + 5, start + 6, b"\1")
    elif marker == APP14 and parameters.startswith(b"Adobe") and len(parameters) >= 12:
        expected = _ADOBE_TRANSFORMS.get(components, 0)
        if parameters[11] not in (0, expected):
            yield _Correction(start + 11, start + 12, bytes([expected]))
    elif marker == SOS and not is_progressive:
        tail = 1 + 2 * parameters[0]
        if parameters[tail : tail + 3] != _ALL_COEFFICIENTS:
            yield _Correction(start + tail, start + tail + 3, _ALL_COEFFICIENTS)
