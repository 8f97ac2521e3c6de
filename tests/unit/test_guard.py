"""The guard on its own: what it says about bytes that OpenCV never gets to see."""

import io
import struct
import time
import zlib

import pytest
from PIL import Image

from app.errors import ImageDecodeFailed, InvalidImageSize
from app.imaging import guard_jpeg, guard_png
from app.imaging.guard import guard
from app.imaging.header import ImageHeader

SIGNATURE = b"\x89PNG\r\n\x1a\n"
IEND = b"\0\0\0\0IEND\xaeB`\x82"


def encode(image_format: str, width: int = 20, height: int = 16, **options: object) -> bytes:
    file = io.BytesIO()
    gradient = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    gradient.save(file, image_format, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    checked = kind + body
    return struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))


def ihdr(width: int = 20, height: int = 16, depth: int = 8, colour_type: int = 2) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))


def idat(raw_bytes: int = 16 * 61) -> bytes:
    return chunk(b"IDAT", zlib.compress(bytes(raw_bytes)))


def segment(marker: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def frame(
    width: int, height: int, marker: int = 0xC0, precision: int = 8, components: int = 1
) -> bytes:
    sizes = struct.pack(">BHHB", precision, height, width, components)
    return segment(marker, sizes + b"\1\x11\0" * components)


SCAN = segment(0xDA, b"\1\1\0\0\x3f\0") + b"\x12\x34\xff\0\x56\xff\xd0\x78"


def jpeg(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments) + b"\xff\xd9"


def bmp(
    width: int = 20,
    height: int = 16,
    depth: int = 24,
    compression: int = 0,
    header_bytes: int = 40,
    colours: int = 0,
    masks: tuple[int, ...] = (),
    pixels_offset: int | None = None,
) -> bytes:
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, depth)
    else:
        fields = (header_bytes, width, height, 1, depth, compression, 0, 0, 0, colours, 0)
        header = struct.pack("<IiiHHIIiiII", *fields)
    tail = struct.pack(f"<{len(masks)}I", *masks)
    palette_bytes = 0 if depth > 8 else (3 if header_bytes == 12 else 4) * (colours or 1 << depth)
    body = header + tail.ljust(header_bytes - len(header), b"\0") + bytes(palette_bytes)
    offset = 14 + len(body) if pixels_offset is None else pixels_offset
    pixels = bytes((width * depth + 31) // 32 * 4 * abs(height))
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, offset) + body + pixels


@pytest.mark.parametrize("image_format", ["JPEG", "BMP"])
def test_a_good_file_is_passed_on_uncopied(image_format: str) -> None:
    data = encode(image_format)
    header, passed = guard(data)
    name = {"JPEG": "jpg", "BMP": "bmp"}[image_format]
    assert (header.format, header.width, header.height) == (name, 20, 16)
    assert passed is data


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize(
    ("width", "height", "detail"),
    [
        (14, 20, "14 px wide, at least 15 wanted"),
        (20, 2, "2 px high, at least 15 wanted"),
        (4097, 20, "4097 px wide, at most 4096 allowed"),
        (20, 4097, "4097 px high, at most 4096 allowed"),
    ],
)
def test_a_size_outside_the_limits_is_refused(
    image_format: str, width: int, height: int, detail: str
) -> None:
    with pytest.raises(InvalidImageSize) as caught:
        guard(encode(image_format, width, height))
    assert caught.value.detail == detail


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize(("width", "height"), [(15, 4096), (4096, 15)])
def test_the_limits_themselves_are_allowed(image_format: str, width: int, height: int) -> None:
    header, _ = guard(encode(image_format, width, height))
    assert (header.width, header.height) == (width, height)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP"])
def test_the_size_is_judged_before_the_structure(image_format: str) -> None:
    # Cut behind the size: 1000 bytes of a file whose data starts much earlier.
    with pytest.raises(InvalidImageSize):
        guard(encode(image_format, 4097, 400)[:1000])


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "the file is empty"),
        (b"x", "not a jpg, png or bmp file"),
        (b"\xff\xd8", "not a jpg, png or bmp file"),
        (b"GIF89a" + bytes(99), "not a jpg, png or bmp file (it looks like gif)"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "not a jpg, png or bmp file (it looks like webp)"),
        (b"II*\0" + bytes(99), "not a jpg, png or bmp file (it looks like tiff)"),
        (b"\0\0\0\x18ftypheic", "not a jpg, png or bmp file (it looks like heic)"),
        (b"\0\0\0\x18ftypavif", "not a jpg, png or bmp file (it looks like avif)"),
        (b"%PDF-1.7", "not a jpg, png or bmp file (it looks like pdf)"),
        (b"<svg xmlns=", "not a jpg, png or bmp file (it looks like svg)"),
        (b"\xff\xd8\xff", "jpg: ends before its end-of-image marker"),
        (SIGNATURE, "png: ends before its IEND chunk"),
        (b"BM", "bmp: no header in 2 bytes"),
    ],
)
def test_a_file_without_an_image_is_named(data: bytes, detail: str) -> None:
    with pytest.raises(ImageDecodeFailed) as caught:
        guard(data)
    assert caught.value.detail == detail


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (jpeg(frame(20, 16)), "jpg: no image before the end-of-image marker"),
        (jpeg(SCAN), "jpg: a scan before the frame header"),
        (jpeg(frame(20, 16), frame(20, 16), SCAN), "jpg: a second frame header at byte 19"),
        (jpeg(frame(20, 0), SCAN), "jpg: no height in the frame header (DNL is not supported)"),
        (jpeg(segment(0xC0, b"\x08\0\x10"), SCAN), "jpg: the frame header is too short"),
        (jpeg(frame(20, 16, precision=12), SCAN), "jpg: 12 bits per sample, only 8 are supported"),
        (
            jpeg(frame(20, 16, components=2), SCAN),
            "jpg: 2 components, only 1, 3 or 4 are supported",
        ),
        (jpeg(frame(20, 16, 0xC3), SCAN), "jpg: lossless coding (SOF3) is not supported"),
        (jpeg(frame(20, 16, 0xC5), SCAN), "jpg: hierarchical coding (SOF5) is not supported"),
        (jpeg(frame(20, 16, 0xC9), SCAN), "jpg: arithmetic coding (SOF9) is not supported"),
        (jpeg(b"\xff\xe1\0\1", frame(20, 16), SCAN), "jpg: segment 0xe1 at byte 2 has length 1"),
        (jpeg(frame(20, 16), SCAN, b"\xff\x3a"), "jpg: unexpected marker 0x3a at byte 33"),
        (jpeg(frame(20, 16), SCAN)[:-2], "jpg: ends before its end-of-image marker"),
        (jpeg(frame(20, 16), SCAN)[:-1], "jpg: ends before its end-of-image marker"),
        (jpeg(frame(20, 16), SCAN)[:20], "jpg: ends inside segment 0xda at byte 15"),
        (b"\xff\xd8\xff\xe1\0", "jpg: ends before its end-of-image marker"),
        (jpeg(frame(20, 16), *[SCAN] * 33), "jpg: more than 32 scans"),
        (jpeg(*[segment(0xE1)] * 1025), "jpg: more than 1024 marker segments"),
    ],
)
def test_a_broken_or_unsupported_jpg_is_named(data: bytes, detail: str) -> None:
    with pytest.raises(ImageDecodeFailed) as caught:
        guard(data)
    assert caught.value.detail == detail


def test_a_thumbnail_is_not_taken_for_the_image() -> None:
    thumbnail = jpeg(frame(4, 3), SCAN)
    header, _ = guard(jpeg(segment(0xE1, b"Exif\0\0" + thumbnail), frame(20, 16), SCAN))
    assert (header.width, header.height) == (20, 16)


def test_images_behind_the_first_one_are_ignored() -> None:
    data = jpeg(frame(20, 16), SCAN) + jpeg(frame(5000, 1), *[SCAN] * 99)
    assert guard(data) == (ImageHeader("jpg", 20, 16), data)


def test_fill_bytes_and_stray_bytes_between_jpg_segments_are_passed_over() -> None:
    data = jpeg(b"\xff\xff" + segment(0xFE, b"hi"), b"stray\xff\0", frame(20, 16), SCAN, b"\xff")
    assert guard(data)[0] == ImageHeader("jpg", 20, 16)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_scans_of_every_progressive_kind_are_allowed(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (20, 16)).save(file, "JPEG", progressive=True)
    assert guard(file.getvalue())[0].width == 20
    assert file.getvalue().count(b"\xff\xda") <= guard_jpeg.MAX_SCANS // 1.5


@pytest.mark.parametrize(
    ("filler", "length"), [(b"\xff", 1), (b"\xff\0", 2), (b"\xff\xd0", 2), (b"\xff\xe1\0\2", 4)]
)
def test_three_megabytes_of_marker_bytes_take_no_time(filler: bytes, length: int) -> None:
    data = jpeg(frame(20, 16), SCAN)[:-2] + filler * (3_000_000 // length)
    started_s = time.process_time()
    with pytest.raises(ImageDecodeFailed):
        guard(data)
    assert time.process_time() - started_s < 0.5


@pytest.mark.parametrize(
    ("chunks", "detail"),
    [
        ([ihdr(), idat()], "png: ends before its IEND chunk"),
        ([ihdr(), IEND], "png: no IDAT chunk"),
        ([idat(), IEND], "png: does not start with an IHDR chunk"),
        ([chunk(b"IHDR", bytes(12)), IEND], "png: does not start with an IHDR chunk"),
        ([ihdr(depth=4), idat(), IEND], "png: no colour type 2 with 4 bits exists"),
        ([ihdr(colour_type=5), idat(), IEND], "png: no colour type 5 with 8 bits exists"),
        ([ihdr()[:-1] + b"x", idat()], "png: chunk IHDR at byte 8 has a wrong CRC"),
        ([ihdr(), idat()[:-1] + b"x"], "png: chunk IDAT at byte 33 has a wrong CRC"),
        (
            [ihdr(), b"\x7f\xff\xff\xffIDAT" + bytes(9)],
            "png: chunk IDAT at byte 33 says 2147483647 bytes, but the file ends sooner",
        ),
        ([ihdr(), chunk(b"a\xe4b1")], "png: no chunk name at byte 33"),
        ([ihdr(), ihdr(), idat(), IEND], "png: a second chunk IHDR at byte 33"),
        ([chunk(b"CgBI", b"\x50\0 \2"), ihdr()], "png: does not start with an IHDR chunk"),
        ([ihdr(), chunk(b"NEWS"), idat(), IEND], "png: unknown critical chunk NEWS at byte 33"),
        (
            [ihdr(), chunk(b"PLTE", b"abc"), chunk(b"PLTE", b"abc"), idat(), IEND],
            "png: a second chunk PLTE at byte 48",
        ),
        (
            [ihdr(), chunk(b"IDAT"), chunk(b"tEXt"), idat(), IEND],
            "png: chunk IDAT at byte 57 does not follow the last IDAT",
        ),
        ([ihdr()] + [chunk(b"tEXt")] * 5000, "png: more than 5000 chunks"),
        (
            [ihdr(), idat(300_000_000), IEND],
            "png: the image data holds more than 1050528 bytes",
        ),
        (
            [ihdr(), chunk(b"IDAT", bytes(300_000)), IEND],
            "png: the image data is not a zlib stream",
        ),
    ],
)
def test_a_broken_png_is_named(chunks: list[bytes], detail: str) -> None:
    with pytest.raises(ImageDecodeFailed) as caught:
        guard(SIGNATURE + b"".join(chunks))
    assert caught.value.detail == detail


def test_only_the_chunks_of_the_default_image_are_passed_on() -> None:
    exif, colour = chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0"), chunk(b"tRNS", bytes(6))
    animation = chunk(b"acTL", bytes(8)) + chunk(b"fcTL", bytes(26))
    text, frame_data = chunk(b"zTXt", b"bomb"), chunk(b"fdAT", b"x")
    parts = [text, exif, animation, colour, frame_data, colour, idat(), exif, frame_data, IEND]
    header, passed = guard(SIGNATURE + ihdr() + b"".join(parts) + b"what follows the end")
    assert header == ImageHeader("png", 20, 16)
    rows = chunk(b"IDAT", zlib.compress(bytes(16 * 61), level=0))
    assert passed == SIGNATURE + ihdr() + colour + rows + IEND


def test_image_data_that_cannot_become_large_is_not_inflated() -> None:
    # Not a zlib stream, which is left to the decoder to find.
    for header in (ihdr(), ihdr(4096, 4096)):
        data = SIGNATURE + header + chunk(b"IDAT", bytes(200_000)) + IEND
        assert guard(data)[1] is data


def test_a_cut_stream_is_left_to_the_decoder() -> None:
    cut = zlib.compress(bytes(16 * 61))[:-3]
    data = SIGNATURE + ihdr() + chunk(b"IDAT", cut) + IEND
    assert guard(data)[1] is data


def test_a_large_png_of_a_sloppy_encoder_is_allowed() -> None:
    raw_bytes = 3 * 1000 * 1000 + 1000
    compressed = zlib.compress(bytes(raw_bytes + 5000), 0)
    pieces = [chunk(b"IDAT", compressed[at : at + 8192]) for at in range(0, len(compressed), 8192)]
    data = SIGNATURE + ihdr(1000, 1000) + b"".join(pieces) + IEND
    assert len(pieces) < guard_png.MAX_CHUNKS
    assert guard(data)[0] == ImageHeader("png", 1000, 1000)


@pytest.mark.parametrize("header_bytes", [12, 40, 52, 56, 64, 108, 124])
@pytest.mark.parametrize("depth", [1, 4, 8, 24, 32])
def test_every_bmp_header_is_read(header_bytes: int, depth: int) -> None:
    header, _ = guard(bmp(33, 21, depth, header_bytes=header_bytes))
    assert header == ImageHeader("bmp", 33, 21)


def test_a_bmp_stored_from_the_top_has_its_height() -> None:
    assert guard(bmp(20, -16))[0].height == 16


BGR, RGB, TEN_BITS, FOUR_BITS = (
    (0xFF0000, 0xFF00, 0xFF),
    (0xFF, 0xFF00, 0xFF0000),
    (0x3FF00000, 0xFFC00, 0x3FF),
    (0xF00, 0xF0, 0xF),
)


@pytest.mark.parametrize(("header_bytes", "masks"), [(40, BGR), (52, BGR), (56, RGB), (124, RGB)])
def test_colour_masks_that_opencv_honours_are_allowed(
    header_bytes: int, masks: tuple[int, ...]
) -> None:
    data = bmp(depth=32, compression=3, header_bytes=header_bytes, masks=masks)
    assert guard(data)[0].width == 20


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (bmp(header_bytes=16), "bmp: a header of 16 bytes is not supported"),
        (bmp()[:50], "bmp: ends inside its header"),
        (bmp(depth=2), "bmp: 2 bits per pixel are not supported"),
        (bmp(depth=8, compression=1), "bmp: compression RLE8 at 8 bits is not supported"),
        (bmp(depth=4, compression=2), "bmp: compression RLE4 at 4 bits is not supported"),
        (bmp(compression=4), "bmp: compression JPEG at 24 bits is not supported"),
        (bmp(compression=3), "bmp: compression 3 at 24 bits is not supported"),
        (bmp(compression=77), "bmp: compression 77 at 24 bits is not supported"),
        (
            bmp(depth=32, compression=3, masks=RGB),
            "bmp: the colour masks 0xff, 0xff00, 0xff0000 of 32-bit pixels are not supported",
        ),
        (
            bmp(depth=32, compression=3, header_bytes=124, masks=TEN_BITS),
            "bmp: the colour masks 0x3ff00000, 0xffc00, 0x3ff of 32-bit pixels are not supported",
        ),
        (
            bmp(depth=16, compression=3, header_bytes=56, masks=FOUR_BITS),
            "bmp: the colour masks 0xf00, 0xf0, 0xf of 16-bit pixels are not supported",
        ),
        (bmp(depth=32, compression=3)[:60], "bmp: ends inside its colour masks"),
        (bmp(depth=8, colours=257), "bmp: a palette of 257 colours"),
        (
            bmp(depth=8, pixels_offset=54),
            "bmp: the pixels start inside the header or the palette",
        ),
        (bmp()[:-1], "bmp: ends at byte 1013, its pixels at byte 1014"),
        (bmp(pixels_offset=1 << 31), "bmp: ends at byte 1014, its pixels at byte 2147484608"),
    ],
)
def test_a_broken_or_unsupported_bmp_is_named(data: bytes, detail: str) -> None:
    with pytest.raises(ImageDecodeFailed) as caught:
        guard(data)
    assert caught.value.detail == detail


@pytest.mark.parametrize("height", [-(2**31), -17_000, 0])
def test_an_impossible_bmp_height_is_refused(height: int) -> None:
    data = bytearray(bmp())
    struct.pack_into("<i", data, 22, height)
    with pytest.raises(InvalidImageSize):
        guard(bytes(data))


def test_details_are_ascii_and_quote_no_foreign_bytes() -> None:
    for position in range(8, 45):
        data = bytearray(SIGNATURE + ihdr() + idat() + IEND)
        data[position] ^= 0xFF
        with pytest.raises((ImageDecodeFailed, InvalidImageSize)) as caught:
            guard(bytes(data))
        assert caught.value.detail.isascii()
        assert caught.value.detail.isprintable()
