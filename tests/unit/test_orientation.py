"""Where an image's orientation is found, and what counts, against Pillow."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from app.imaging.decode import decode
from app.imaging.guard import guard
from app.imaging.orientation import read_orientation

CASES = Path(__file__).parents[1] / "cases"

TAG = 0x0112
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, FLOAT = 1, 2, 3, 4, 5, 7, 11
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
ATTRIBUTE = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
ELEMENT = b"<x:xmpmeta><tiff:Orientation>8</tiff:Orientation></x:xmpmeta>"


def picture() -> Image.Image:
    pixels = np.random.default_rng(5).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encode(image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture().save(file, image_format, **options)
    return file.getvalue()


def tiff(*entries: tuple[int, int, int, bytes], order: str = "<", tail: bytes = b"") -> bytes:
    """An EXIF block of (tag, type, count, value or offset)."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(order + "LH", 8, len(entries))
    return (
        head
        + b"".join(
            struct.pack(order + "HHL", tag, kind, count) + value.ljust(4, b"\0")[:4]
            for tag, kind, count, value in entries
        )
        + bytes(4)
        + tail
    )


def with_segments(*bodies: bytes) -> bytes:
    data = encode("JPEG", quality=90)
    segments = b"".join(struct.pack(">BBH", 0xFF, 0xE1, len(b) + 2) + b for b in bodies)
    return data[:2] + segments + data[2:]


def with_chunks(*chunks: tuple[bytes, bytes], after_image: bool = False) -> bytes:
    data = encode("PNG")
    parts = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    at = len(data) - 12 if after_image else 33
    return data[:at] + parts + data[at:]


def raw_profile(exif: bytes) -> bytes:
    lines = [exif.hex()[at : at + 72] for at in range(0, 2 * len(exif), 72)]
    return f"\nexif\n{len(exif):8}\n".encode() + "\n".join(lines).encode() + b"\n"


def assert_as_pillow(data: bytes, orientation: int) -> None:
    header, passed = guard(data)
    assert header.orientation == orientation
    with warnings.catch_warnings():
        # Pillow warns about broken metadata.
        warnings.simplefilter("ignore")
        stored = Image.open(io.BytesIO(data))
        upright = ImageOps.exif_transpose(stored)
    assert np.array_equal(decode(header, passed), np.asarray(upright.convert("RGB")))
    as_stored = decode(header, passed, orientation="ignore")
    assert np.array_equal(as_stored, np.asarray(stored.convert("RGB")))


SIX = tiff((TAG, SHORT, 1, b"\6\0"))


@pytest.mark.parametrize(
    ("exif", "orientation"),
    [
        (SIX, 6),
        (tiff((TAG, SHORT, 1, b"\0\6"), order=">"), 6),
        (tiff((TAG, LONG, 1, b"\6\0\0\0")), 6),
        (tiff((TAG, BYTE, 1, b"\6")), 1),
        (tiff((TAG, ASCII, 2, b"6\0")), 1),
        (tiff((TAG, UNDEFINED, 1, b"\6")), 1),
        (tiff((TAG, FLOAT, 1, struct.pack("<f", 6))), 6),
        (tiff((TAG, RATIONAL, 1, b"\x1a\0\0\0"), tail=struct.pack("<LL", 12, 2)), 6),
        (tiff((TAG, SHORT, 2, b"\6\0\3\0")), 6),
        (tiff((TAG, SHORT, 0, b"\6\0"), (TAG, SHORT, 1, b"\3\0")), 3),
        (tiff((TAG, SHORT, 1, b"\6\0"), (TAG, SHORT, 1, b"\3\0")), 6),
        (tiff((TAG, 99, 1, b"\6\0")), 1),
        (tiff((TAG, SHORT, 1, b"\0\0")), 1),
        (tiff((TAG, SHORT, 1, b"\x09\0")), 1),
        # A value that is cut ends the directory; one longer than the block is passed over.
        (tiff((0x010F, ASCII, 20, b"\x40"), (TAG, SHORT, 1, b"\6\0")), 1),
        (tiff((0x010F, ASCII, 999, b"\x08"), (TAG, SHORT, 1, b"\6\0")), 6),
        (b"", 1),
        (SIX[:20], 1),
    ],
)
def test_an_orientation_counts_by_its_type(exif: bytes, orientation: int) -> None:
    assert_as_pillow(with_segments(b"Exif\0\0" + exif), orientation)
    assert_as_pillow(with_chunks((b"eXIf", exif)), orientation)


@pytest.mark.parametrize(
    ("data", "orientation"),
    [
        (with_segments(XMP_NAME + ATTRIBUTE), 6),
        (with_segments(XMP_NAME + ELEMENT), 8),
        (with_segments(XMP_NAME + ELEMENT, XMP_NAME + ATTRIBUTE), 6),
        (with_segments(XMP_NAME + ATTRIBUTE, b"Exif\0\0" + tiff((TAG, SHORT, 1, b"\3\0"))), 3),
        (with_segments(XMP_NAME + ATTRIBUTE, b"Exif\0\0" + tiff((TAG, BYTE, 1, b"\3"))), 1),
        (with_segments(XMP_NAME + ATTRIBUTE, b"Exif\0\0" + tiff((0x010F, SHORT, 1, b"\1"))), 6),
        (with_segments(b"Exif\0\0" + SIX[:20], b"Exif\0\0" + SIX[20:]), 6),
        (with_segments(b"Exif\0\0Exif\0\0" + SIX), 6),
        (with_chunks((b"eXIf", b"Exif\0\0" + SIX)), 6),
        (with_chunks((b"eXIf", SIX), after_image=True), 6),
        (with_chunks((b"eXIf", tiff((TAG, SHORT, 1, b"\3\0"))), (b"eXIf", SIX)), 6),
        (with_chunks((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + ATTRIBUTE)), 6),
        (with_chunks((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(ELEMENT))), 8),
        (with_chunks((b"tEXt", b"XML:com.adobe.xmp\0" + ATTRIBUTE), after_image=True), 6),
        (with_chunks((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(SIX)))), 6),
        (with_chunks((b"tEXt", b"Raw profile type exif\0" + raw_profile(b"Exif\0\0" + SIX))), 6),
        (
            with_chunks(
                (b"tEXt", b"Raw profile type exif\0" + raw_profile(SIX)),
                (b"eXIf", tiff((TAG, SHORT, 1, b"\3\0"))),
            ),
            3,
        ),
        (with_chunks((b"zTXt", b"Raw profile type exif\0\0no zlib stream")), 1),
        (with_chunks((b"tEXt", b"Comment\0" + ATTRIBUTE)), 1),
    ],
)
def test_an_orientation_is_found_where_pillow_finds_it(data: bytes, orientation: int) -> None:
    assert_as_pillow(data, orientation)


def test_a_text_that_inflates_to_gigabytes_is_not_inflated() -> None:
    bomb = zlib.compress(bytes(1 << 28), 9)
    header, _ = guard(with_chunks((b"zTXt", b"Raw profile type exif\0\0" + bomb)))
    assert header.orientation == 1


def test_metadata_of_the_next_frame_of_an_animation_does_not_count() -> None:
    frames = [picture(), picture().rotate(180)]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    data = file.getvalue()
    late = struct.pack(">I", len(SIX)) + b"eXIf" + SIX
    late += struct.pack(">I", zlib.crc32(b"eXIf" + SIX))
    assert_as_pillow(data[:-12] + late + data[-12:], 1)


def test_a_malformed_block_is_no_orientation() -> None:
    # Pillow raises an exception for each.
    for exif in (b"neither", b"II*\0", b"II+\0" + bytes(16), b"XX*\0" + SIX[4:]):
        assert read_orientation(exif, ATTRIBUTE) == 1


def test_any_directory_gives_the_orientation_that_pillow_finds() -> None:
    rng = np.random.default_rng(17)
    for _ in range(4000):
        order = str(rng.choice(["<", ">"]))
        entries = [
            (
                int(rng.choice([TAG, TAG, 0x010F, 0x011A])),
                int(rng.integers(18)),
                int(rng.choice([0, 1, 1, 1, 2, 3, 9, 70000])),
                struct.pack(
                    order + str(rng.choice(["L", "H", "f"])), int(rng.choice([3, 6, 30, 40]))
                ),
            )
            for _ in range(rng.integers(6))
        ]
        block = tiff(*entries, order=order, tail=rng.bytes(int(rng.integers(80))))
        block = block[: rng.integers(len(block))] if rng.random() < 0.2 else block
        assert read_orientation(block, b"") == pillow_orientation(block), block.hex()


def pillow_orientation(block: bytes) -> int:
    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exif.load(block)
            value = exif.get(TAG, 1)
        except (SyntaxError, struct.error):
            return 1
    return int(value) if value in {1, 2, 3, 4, 5, 6, 7, 8} else 1


def test_a_photo_whose_only_orientation_is_in_its_xmp_is_turned() -> None:
    assert_as_pillow((CASES / "xmp_only.jpg").read_bytes(), 6)


def test_an_orientation_of_the_type_byte_is_none() -> None:
    assert_as_pillow((CASES / "exif_byte_II.jpg").read_bytes(), 1)


def test_pillow_itself_writes_what_is_found() -> None:
    exif = Image.Exif()
    exif[TAG] = 5
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", ELEMENT.decode(), zip=True)
    assert_as_pillow(encode("JPEG", exif=exif.tobytes()), 5)
    assert_as_pillow(encode("PNG", exif=exif.tobytes()), 5)
    assert_as_pillow(encode("PNG", pnginfo=info), 8)
