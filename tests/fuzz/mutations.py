"""Mutations of image files that keep most of their structure, so that they get past the guard."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from app.errors import ApiError
from app.imaging.jpeg_segments import walk_segments

PHOTO = Path(__file__).parents[1] / "photos" / "coffee.jpg"

Mutation = Callable[[np.random.Generator, bytes], bytes]

_NUMBERS = (0, 1, 2, 7, 8, 14, 15, 16, 255, 256, 4095, 4096, 4097, 65535, 1 << 31, (1 << 32) - 1)
_ORIENTATION = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
_XMP = "<x:xmpmeta><tiff:Orientation>8</tiff:Orientation></x:xmpmeta>"


def make_seeds() -> dict[str, list[bytes]]:
    """Encode a small photo in every kind of each format."""
    with Image.open(PHOTO) as photo:
        small = photo.convert("RGB").resize((46, 35))
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n  38\n{_ORIENTATION.hex()}\n", zip=True)
    text.add_itxt("XML:com.adobe.xmp", _XMP, zip=True)
    four = Image.merge("CMYK", [small.convert("L")] * 4)
    jpgs = [
        _encode(small, "JPEG", exif=_ORIENTATION),
        _encode(small, "JPEG", progressive=True, subsampling=0, xmp=_XMP.encode()),
        _encode(small, "JPEG", restart_marker_blocks=2, subsampling=1),
        _encode(small.convert("L"), "JPEG", progressive=True),
        _encode(four, "JPEG"),
        _encode(four, "JPEG", progressive=True),
    ]
    pngs = [_encode(small.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    pngs += [
        _encode(small, "PNG", exif=_ORIENTATION, pnginfo=text),
        _encode(small, "PNG", save_all=True, append_images=[small.rotate(9)]),
        _encode(small.convert("I;16"), "PNG"),
    ]
    bmps = [_encode(small.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")]
    bmps += [_bmp16(header_bytes) for header_bytes in (40, 56, 124)]
    return {"jpg": jpgs, "png": pngs, "bmp": bmps}


def mutate(image_format: str, rng: np.random.Generator, seeds: Sequence[bytes]) -> bytes:
    """Change one of the files in one to four places."""
    data = seeds[int(rng.integers(len(seeds)))]
    for _ in range(rng.integers(1, 5)):
        # Few of bytes alone, most of which the guard sees.
        mutations = _OF_BYTES if rng.integers(8) == 0 else _OF_FORMAT[image_format]
        data = mutations[int(rng.integers(len(mutations)))](rng, data)
    return data


def _encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _bmp16(header_bytes: int) -> bytes:
    masks = (0xF800, 0x7E0, 0x1F)
    header = struct.pack("<IiiHHIIiiIIIII", header_bytes, 21, 17, 1, 16, 3, *[0] * 5, *masks)
    header = header.ljust(header_bytes, b"\0")
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(header)) + header + bytes(44 * 17)


def _place(rng: np.random.Generator, data: bytes) -> int:
    return int(rng.integers(len(data) + 1))


def _flip_bits(rng: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        if changed:
            changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
    return bytes(changed)


def _write_number(rng: np.random.Generator, data: bytes) -> bytes:
    at, code = _place(rng, data), str(rng.choice(["B", ">H", "<H", ">I", "<I"]))
    number = int(rng.choice(_NUMBERS)) % (1 << 8 * struct.calcsize(code))
    piece = struct.pack(code, number)
    return data[:at] + piece + data[at + len(piece) :]


def _cut(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def _delete(rng: np.random.Generator, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + int(rng.integers(1, 65)) :]


def _repeat(rng: np.random.Generator, data: bytes) -> bytes:
    at, length = _place(rng, data), int(rng.integers(1, 65))
    return data[:at] + data[at : at + length] * int(rng.integers(2, 9)) + data[at + length :]


def _clear(rng: np.random.Generator, data: bytes) -> bytes:
    at, length = _place(rng, data), int(rng.integers(1, 65))
    filler = bytes([rng.choice([0, 255])])
    return data[:at] + filler * len(data[at : at + length]) + data[at + length :]


def _change_piece(rng: np.random.Generator, pieces: list[bytes]) -> list[bytes]:
    """Drop, repeat or move one of a file's parts, or change it within."""
    if not pieces:
        return pieces
    at = int(rng.integers(len(pieces)))
    match rng.integers(5):
        case 0:
            del pieces[at]
        case 1:
            pieces[at:at] = [pieces[at]] * int(rng.integers(1, 40))
        case 2:
            pieces.insert(int(rng.integers(len(pieces))), pieces.pop(at))
        case _:
            changed = _OF_BYTES[rng.integers(len(_OF_BYTES))](rng, pieces[at])
            pieces[at] = changed
    return pieces


def _jpeg_segments(rng: np.random.Generator, data: bytes) -> bytes:
    try:
        starts = [segment.begin for segment in walk_segments(data)]
    except ApiError:
        return data
    pieces = [data[start:end] for start, end in pairwise([*starts, len(data) - 2])]
    changed = map(_correct_length, _change_piece(rng, pieces))
    return b"\xff\xd8" + b"".join(changed) + b"\xff\xd9"


def _correct_length(segment: bytes) -> bytes:
    """Write the length of a segment again; that of a scan header does not count its data."""
    if segment[1:2] == b"\xda" or len(segment) < 4:
        return segment
    return segment[:2] + struct.pack(">H", len(segment) - 2) + segment[4:]


def _jpeg_cut_scan(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: max(_place(rng, data), 2)] + b"\xff\xd9"


def _jpeg_marker(rng: np.random.Generator, data: bytes) -> bytes:
    at = _place(rng, data)
    marker = bytes([0xFF, int(rng.choice([0, *range(0xD0, 0xDE), 0xC4, 0xE1]))])
    return data[:at] + marker + data[at:]


def _png_chunks(rng: np.random.Generator, data: bytes) -> bytes:
    """Change the chunks, and make their lengths and CRCs right again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append(data[at + 4 : at + 8 + length])
        at += 12 + length
    chunks = _change_piece(rng, chunks)
    return data[:8] + b"".join(
        struct.pack(">I", max(len(chunk) - 4, 0)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def _png_rows(rng: np.random.Generator, data: bytes) -> bytes:
    """Change the filtered rows, or the text or animation, inside their compression."""
    start = data.find(b"IDAT")
    if start < 4:
        return data
    (length,) = struct.unpack_from(">I", data, start - 4)
    try:
        rows = zlib.decompressobj().decompress(data[start + 4 : start + 4 + length], 1 << 20)
    except zlib.error:
        return data
    body = b"IDAT" + zlib.compress(_OF_BYTES[rng.integers(len(_OF_BYTES))](rng, rows))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[: start - 4] + chunk + data[start + 8 + length :]


def _png_insert(rng: np.random.Generator, data: bytes) -> bytes:
    kind = bytes(rng.choice([b"acTL", b"fcTL", b"fdAT", b"eXIf", b"zTXt", b"PLTE", b"tRNS"]))
    body = kind + rng.bytes(int(rng.choice([0, 1, 3, 4, 6, 8, 26, 100])))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    at = int(rng.choice([33, max(len(data) - 12, 33)]))
    return data[:at] + chunk + data[at:]


def _bmp_field(rng: np.random.Generator, data: bytes) -> bytes:
    at, code = int(rng.choice([10, 14, 18, 22, 26, 28, 30, 46, 54, 58, 62])), "<I"
    if at in (26, 28):
        code = "<H"
    number = int(rng.choice([*_NUMBERS, 3, 12, 24, 32, 40, 52, 54, 56, 66, 70, 124]))
    piece = struct.pack(code, number % (1 << 8 * struct.calcsize(code)))
    return data[:at] + piece + data[at + len(piece) :]


_OF_BYTES: list[Mutation] = [_flip_bits, _write_number, _cut, _delete, _repeat, _clear]
_OF_FORMAT: dict[str, list[Mutation]] = {
    "jpg": [_jpeg_segments, _jpeg_cut_scan, _jpeg_marker],
    "png": [_png_chunks, _png_rows, _png_insert],
    "bmp": [_bmp_field],
}
