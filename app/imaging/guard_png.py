"""The chunks of a PNG file (W3C PNG, third edition, section 5), reduced to the default image."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from app.errors import ImageDecodeFailed
from app.imaging.header import ImageHeader, check_size
from app.imaging.png_metadata import PngMetadata

MAX_CHUNKS = 5000
"""Maximum number of chunks: encoders write IDAT chunks of at least 8 KiB, 400 in 3 MiB, or one
for each of at most 4096 rows. Each takes 2 µs with the GIL held."""

KEPT_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
"""The chunks of a default image.

Animations are dropped (acTL, fcTL, fdAT), as they can crash OpenCV 4.12 to 5.0. Colour
profiles and text are compressed, take memory and change no pixel. The orientation is read here.
"""

_SIGNATURE_BYTES = 8
_CHUNK_OVERHEAD_BYTES = 12  # length, type, CRC
_IHDR_BYTES = 13

# Colour type to (samples per pixel, bit depths): PNG section 11.2.1, table 11.1.
_COLOUR_TYPES = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    3: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}

_DEFLATE_MAX_RATIO = 1032
"""Of any deflate stream (zlib's technical details, "Maximum Compression Factor")."""

_HARMLESS_INFLATED_BYTES = 256 << 20
"""About 0.5 s of inflating, no more than for a valid image of the largest size.

Image data of up to 260 KB of a costly file cannot hold more and is not inflated here, which
would make decoding half as long again.
"""

_INFLATE_STEP_BYTES = 16384


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    end: int


def guard_png(data: bytes) -> tuple[ImageHeader, bytes]:
    """Check every chunk of a PNG file, and keep those of the default image.

    Args:
        data: a file that starts with the PNG signature.

    Returns:
        The header, and a file of KEPT_CHUNKS only, the rows of an image that is not costly
        uncompressed.

    Raises:
        InvalidImageSize: a side is too small or too large.
        ImageDecodeFailed: a wrong length or CRC, an unknown critical chunk, a forbidden order,
            no IEND, or image data that inflates to far more than the image; of a costly image
            ``check_png`` says that.
    """
    view = memoryview(data)
    chunks = _walk_chunks(view)
    first = next(chunks)
    header, raw_bytes = _read_ihdr(view, first)
    others = list(chunks)
    kept = [first, *_choose_chunks(others)]
    header = replace(
        header,
        orientation=_read_orientation(view, others),
        cost_px=max(raw_bytes, header.width * header.height),
    )
    idats = [chunk for chunk in kept if chunk.kind == b"IDAT"]
    if not header.is_costly:
        rows = _inflate(view, idats, raw_bytes)
        if rows is not None:
            return header, _store_rows(data, kept, rows)
    return header, _join_chunks(data, kept)


def check_png(data: bytes) -> None:
    """Check what the image data of a costly file inflates to, which takes long itself.

    Args:
        data: from ``guard_png``.

    Raises:
        ImageDecodeFailed: it inflates to far more than the image, or is not a zlib stream.
    """
    view = memoryview(data)
    chunks = list(_walk_chunks(view))
    _, raw_bytes = _read_ihdr(view, chunks[0])
    _check_inflated(view, [chunk for chunk in chunks if chunk.kind == b"IDAT"], raw_bytes)


def _walk_chunks(view: memoryview) -> Iterator[_Chunk]:
    """Yield each chunk up to IEND, its length and CRC checked."""
    start = _SIGNATURE_BYTES
    for _ in range(MAX_CHUNKS):
        chunk = _read_chunk(view, start)
        yield chunk
        if chunk.kind == b"IEND":
            return
        start = chunk.end
    raise ImageDecodeFailed(f"png: more than {MAX_CHUNKS} chunks")


def _read_chunk(view: memoryview, start: int) -> _Chunk:
    if start + _CHUNK_OVERHEAD_BYTES > len(view):
        raise ImageDecodeFailed("png: ends before its IEND chunk")
    length, kind = struct.unpack_from(">I4s", view, start)
    if not kind.isalpha():
        raise ImageDecodeFailed(f"png: no chunk name at byte {start}")
    name = f"chunk {kind.decode('ascii')} at byte {start}"
    end = start + _CHUNK_OVERHEAD_BYTES + length
    if end > len(view):
        raise ImageDecodeFailed(f"png: {name} says {length} bytes, but the file ends sooner")
    (crc,) = struct.unpack_from(">I", view, end - 4)
    if zlib.crc32(view[start + 4 : end - 4]) != crc:
        raise ImageDecodeFailed(f"png: {name} has a wrong CRC")
    return _Chunk(kind, start, end)


def _read_ihdr(view: memoryview, chunk: _Chunk) -> tuple[ImageHeader, int]:
    """Read the header, and how many bytes the filtered rows take without interlacing."""
    if chunk.kind != b"IHDR" or chunk.end - chunk.start != _CHUNK_OVERHEAD_BYTES + _IHDR_BYTES:
        raise ImageDecodeFailed("png: does not start with an IHDR chunk")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", view, chunk.start + 8)
    check_size(width, height)
    samples, depths = _COLOUR_TYPES.get(colour_type, (0, ()))
    if depth not in depths:
        raise ImageDecodeFailed(f"png: no colour type {colour_type} with {depth} bits exists")
    # One byte before each row names its filter (section 7.3).
    raw_bytes = height * (1 + (width * samples * depth + 7) // 8)
    return ImageHeader("png", width, height), raw_bytes


def _choose_chunks(chunks: Iterable[_Chunk]) -> Iterator[_Chunk]:
    seen: set[bytes] = set()
    last = b"IHDR"
    for chunk in chunks:
        _check_order(chunk, last, seen)
        # A second tRNS is an error too, but ancillary: the first one counts.
        if chunk.kind in KEPT_CHUNKS and (chunk.kind == b"IDAT" or chunk.kind not in seen):
            yield chunk
        seen.add(chunk.kind)
        last = chunk.kind
    if b"IDAT" not in seen:
        raise ImageDecodeFailed("png: no IDAT chunk")


def _read_orientation(view: memoryview, chunks: Iterable[_Chunk]) -> int:
    metadata = PngMetadata()
    for chunk in chunks:
        # Pillow reads no further than the second frame of an animation.
        if chunk.kind == b"fcTL" and metadata.is_after_image:
            break
        metadata.add(chunk.kind, view[chunk.start + 8 : chunk.end - 4])
    return metadata.orientation


def _check_order(chunk: _Chunk, last: bytes, seen: set[bytes]) -> None:
    """Refuse violations of section 5.6 that libpng would not see once chunks are dropped."""
    kind = chunk.kind
    name = f"chunk {kind.decode('ascii')} at byte {chunk.start}"
    # The case of the first letter tells whether a decoder may skip the chunk (section 5.4).
    if kind[:1].isupper() and kind not in KEPT_CHUNKS:
        raise ImageDecodeFailed(f"png: unknown critical {name}")
    if kind == b"IHDR" or (kind == b"PLTE" and kind in seen):
        raise ImageDecodeFailed(f"png: a second {name}")
    if kind == b"IDAT" and kind in seen and last != kind:
        raise ImageDecodeFailed(f"png: {name} does not follow the last IDAT")


def _check_inflated(view: memoryview, idats: list[_Chunk], raw_bytes: int) -> None:
    """Refuse image data that inflates to much more than the image.

    libpng stops writing at the end of the image, but inflates the stream to its end: 3 MiB
    can hold 3 GB and take seconds.
    """
    limit_bytes = _max_inflated_bytes(raw_bytes)
    if _is_harmless(idats, limit_bytes):
        return
    try:
        for inflated_bytes in _inflated_sizes(view, idats):
            if inflated_bytes > limit_bytes:
                raise ImageDecodeFailed(f"png: the image data holds more than {limit_bytes} bytes")
    except zlib.error as error:
        raise ImageDecodeFailed("png: the image data is not a zlib stream") from error


def _max_inflated_bytes(raw_bytes: int) -> int:
    """Twice, as interlacing adds rows and rounds each up; the rest tolerates sloppy encoders."""
    return 2 * raw_bytes + (1 << 20)


def _is_harmless(idats: list[_Chunk], limit_bytes: int) -> bool:
    compressed_bytes = sum(idat.end - idat.start for idat in idats)
    return compressed_bytes * _DEFLATE_MAX_RATIO <= limit_bytes + _HARMLESS_INFLATED_BYTES


def _inflate(view: memoryview, idats: list[_Chunk], raw_bytes: int) -> bytes | None:
    """Inflate the rows of an image; None if the stream is incomplete or damaged.

    The decoder is left to say what is wrong with such a stream. It is bounded too.
    """
    limit_bytes = _max_inflated_bytes(raw_bytes)
    inflater = zlib.decompressobj()
    # In one call: each releases the GIL, and may wait long to get it back.
    stream = b"".join(view[idat.start + 8 : idat.end - 4] for idat in idats)
    try:
        rows = inflater.decompress(stream, limit_bytes + 1)
    except zlib.error as error:
        if _is_harmless(idats, limit_bytes):
            return None
        raise ImageDecodeFailed("png: the image data is not a zlib stream") from error
    if len(rows) > limit_bytes:
        raise ImageDecodeFailed(f"png: the image data holds more than {limit_bytes} bytes")
    return rows if inflater.eof else None


def _store_rows(data: bytes, kept: list[_Chunk], rows: bytes) -> bytes:
    """Write the inflated rows into the file, so that the decoder need not inflate them again."""
    view = memoryview(data)
    others = [view[c.start : c.end] for c in kept if c.kind not in (b"IDAT", b"IEND")]
    stored = zlib.compress(rows, 0)
    idat = struct.pack(">I", len(stored)) + b"IDAT" + stored
    crc = struct.pack(">I", zlib.crc32(stored, zlib.crc32(b"IDAT")))
    end = view[kept[-1].start : kept[-1].end]
    return b"".join([view[:_SIGNATURE_BYTES], *others, idat, crc, end])


def _inflated_sizes(view: memoryview, idats: list[_Chunk]) -> Iterator[int]:
    """Yield the running total of inflated bytes, in steps that keep the memory small."""
    inflater = zlib.decompressobj()
    total = 0
    for idat in idats:
        for start in range(idat.start + 8, idat.end - 4, _INFLATE_STEP_BYTES):
            step = view[start : min(start + _INFLATE_STEP_BYTES, idat.end - 4)]
            total += len(inflater.decompress(step))
            yield total


def _join_chunks(data: bytes, kept: list[_Chunk]) -> bytes:
    kept_bytes = _SIGNATURE_BYTES + sum(chunk.end - chunk.start for chunk in kept)
    if kept_bytes == len(data):
        return data
    view = memoryview(data)
    return b"".join([view[:_SIGNATURE_BYTES], *(view[c.start : c.end] for c in kept)])
