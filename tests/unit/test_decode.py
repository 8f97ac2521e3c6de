"""The pixels that come out of the decoder, against PIL or against what was put in."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from app.errors import ImageDecodeFailed
from app.imaging.decode import Reduction, decode
from app.imaging.guard import guard
from app.imaging.header import ImageHeader

CORPUS = Path(__file__).parents[1] / "corpus"
Pixels = NDArray[np.uint8]


def read(data: bytes, reduce: Reduction = 1) -> Pixels:
    header, passed = guard(data)
    return decode(header, passed, reduce)


def pil_pixels(data: bytes) -> Pixels:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return np.asarray(image.convert("RGB"))


def noise(height: int, width: int, channels: int) -> Pixels:
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def photo(width: int = 61, height: int = 45) -> Image.Image:
    with Image.open(CORPUS / "pillow/Tests__images__hopper.jpg") as image:
        return image.resize((width, height))


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def png(rows: Pixels, depth: int, colour_type: int, *extra: tuple[bytes, bytes]) -> bytes:
    """Store (height, row bytes) as they are, so that nothing is lost to an encoder."""
    height, row_bytes = rows.shape
    width = row_bytes * 8 // depth // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    ihdr = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    raw = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    chunks = [(b"IHDR", ihdr), *extra, (b"IDAT", raw), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def test_pixels_are_contiguous_writable_rgb_bytes() -> None:
    image = read(encode(Image.new("RGB", (20, 16), (255, 128, 0)), "PNG"))
    assert image.dtype == np.uint8
    assert image.shape == (16, 20, 3)
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert image[3, 3].tolist() == [255, 128, 0]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_colour_or_grey_jpg_is_bit_identical_to_pil(
    mode: str, progressive: bool, subsampling: int
) -> None:
    options = {"progressive": progressive, "subsampling": subsampling if mode == "RGB" else 0}
    data = encode(photo().convert(mode), "JPEG", **options)
    assert np.array_equal(read(data), pil_pixels(data))


def test_a_cmyk_jpg_is_converted_as_pil_does_within_two_levels() -> None:
    data = encode(photo().convert("CMYK"), "JPEG")
    assert np.abs(read(data).astype(int) - pil_pixels(data)).max() <= 2


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_every_exif_orientation_is_applied(image_format: str, orientation: int) -> None:
    data = encode(photo(), image_format, exif=exif(orientation))
    image = read(data)
    assert np.array_equal(image, pil_pixels(data))
    assert image.shape == ((61, 45, 3) if orientation >= 5 else (45, 61, 3))


@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_an_oriented_photo_is_upright(name: str) -> None:
    for orientation in (1, 3, 6, 8):
        data = (CORPUS / f"exif-orientation/{name}_{orientation}.jpg").read_bytes()
        assert np.array_equal(read(data), pil_pixels(data))


@pytest.mark.parametrize(("colour_type", "channels"), [(6, 4), (4, 2)])
def test_alpha_is_dropped_and_not_blended(colour_type: int, channels: int) -> None:
    pixels = noise(16, 20, channels)
    expected = pixels[:, :, :3] if channels == 4 else pixels[:, :, :1].repeat(3, axis=2)
    image = read(png(pixels.reshape(16, -1), 8, colour_type))
    assert np.array_equal(image, expected)


def test_the_transparency_of_a_palette_is_dropped() -> None:
    palette, indices = noise(1, 256, 3)[0], noise(16, 20, 1)
    alpha = bytes(range(256))
    image = read(png(indices[:, :, 0], 8, 3, (b"PLTE", palette.tobytes()), (b"tRNS", alpha)))
    assert np.array_equal(image, palette[indices[:, :, 0]])


def test_a_transparent_colour_stays_a_colour() -> None:
    pixels = noise(16, 20, 3)
    key = bytes([0, pixels[0, 0, 0], 0, pixels[0, 0, 1], 0, pixels[0, 0, 2]])
    assert np.array_equal(read(png(pixels.reshape(16, -1), 8, 2, (b"tRNS", key))), pixels)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_keep_their_high_byte(colour_type: int, channels: int) -> None:
    samples = noise(16, 20, 2 * channels)
    high = samples[:, :, ::2]
    expected = high[:, :, :3] if channels >= 3 else high[:, :, :1].repeat(3, axis=2)
    assert np.array_equal(read(png(samples.reshape(16, -1), 16, colour_type)), expected)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_are_stretched_to_the_full_range(depth: int) -> None:
    levels = np.arange(1 << depth) * 255 // ((1 << depth) - 1)
    image = read(png(noise(16, 20, 1)[:, :, 0], depth, 0))
    assert np.array_equal(np.unique(image), levels)


def bmp32(pixels: Pixels, header_bytes: int, masks: tuple[int, int, int]) -> bytes:
    height, width, _ = pixels.shape
    fields = (header_bytes, width, -height, 1, 32, 3, 0, 0, 0, 0, 0, *masks)
    header = struct.pack("<IiiHHIIiiIIIII", *fields).ljust(max(header_bytes, 52), b"\0")
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(header)) + header + pixels.tobytes()


@pytest.mark.parametrize(
    ("header_bytes", "order"),
    [(40, (2, 1, 0)), (52, (2, 1, 0)), (56, (0, 1, 2)), (108, (3, 2, 1)), (124, (1, 2, 3))],
)
def test_the_colour_masks_of_a_bmp_are_honoured(
    header_bytes: int, order: tuple[int, int, int]
) -> None:
    pixels = noise(16, 20, 4)
    red, green, blue = (0xFF << 8 * byte for byte in order)
    image = read(bmp32(pixels, header_bytes, (red, green, blue)))
    assert np.array_equal(image, pixels[:, :, order])


def bmp16(
    values: NDArray[np.uint16], header_bytes: int, masks: tuple[int, ...], top_down: bool = False
) -> bytes:
    height, width = values.shape
    rows = np.pad(values.astype("<u2"), ((0, 0), (0, width % 2)))
    sizes = (width, -height if top_down else height, 1, 16)
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, *sizes)
    else:
        header = struct.pack("<IiiHHIIiiII", header_bytes, *sizes, 3 if masks else 0, *[0] * 5)
        header += struct.pack(f"<{len(masks)}I", *masks)
    header = header.ljust(header_bytes, b"\0")
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(header)) + header + rows.tobytes()


MASKS_565, MASKS_555 = (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)


@pytest.mark.parametrize("header_bytes", [40, 52, 56, 64, 108, 124])
@pytest.mark.parametrize("masks", [MASKS_565, MASKS_555])
def test_a_bmp_of_five_and_six_bits_is_stretched_as_pil_does(
    header_bytes: int, masks: tuple[int, ...]
) -> None:
    values = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    data = bmp16(values, header_bytes, masks)
    image = read(data)
    assert np.array_equal(image, pil_pixels(data))
    assert image.max() == 255
    assert image.flags.c_contiguous


@pytest.mark.parametrize(
    ("header_bytes", "top_down"), [(12, False), (40, False), (40, True), (108, True)]
)
def test_a_bmp_of_sixteen_bits_without_masks_has_the_pixels_that_pil_finds(
    header_bytes: int, top_down: bool
) -> None:
    values = np.random.default_rng(7).integers(0, 1 << 16, (17, 21), dtype=np.uint16)
    data = bmp16(values, header_bytes, (), top_down)
    assert np.array_equal(read(data), pil_pixels(data))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_bmp_without_a_pixel_offset_or_its_last_padding_is_decoded_as_pil_does(
    mode: str,
) -> None:
    data = encode(photo(53).convert(mode), "BMP")
    padding = -((53 * {"1": 1, "RGB": 24}.get(mode, 8) + 7) // 8) % 4
    assert padding
    # The stored height is positive: the padding at the end is that of the first row.
    for changed in (data[:10] + bytes(4) + data[14:], data[:-padding]):
        assert np.array_equal(read(changed), pil_pixels(changed))
    with pytest.raises(ImageDecodeFailed, match="its pixels at byte"):
        read(data[: -padding - 1])


def test_a_bmp_with_masks_but_without_a_pixel_offset_is_decoded_as_pil_does() -> None:
    values = np.random.default_rng(7).integers(0, 1 << 16, (17, 21), dtype=np.uint16)
    for header_bytes in (40, 56):
        data = bmp16(values, header_bytes, MASKS_565)
        changed = data[:10] + bytes(4) + data[14:]
        assert np.array_equal(read(changed), pil_pixels(changed))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_a_bmp_has_the_pixels_that_pil_finds(mode: str) -> None:
    data = encode(photo().convert(mode), "BMP")
    assert np.array_equal(read(data), pil_pixels(data))


@pytest.mark.parametrize("reduce", [2, 4, 8])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_reduced_jpg_is_the_small_upright_rgb_image(reduce: Reduction, orientation: int) -> None:
    data = encode(photo(333, 217), "JPEG", quality=95, exif=exif(orientation))
    image = read(data, reduce)
    height, width = -(-217 // reduce), -(-333 // reduce)
    assert image.shape == ((width, height, 3) if orientation == 6 else (height, width, 3))
    assert image.flags.c_contiguous
    bgr_flag = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}.get(
        reduce, cv2.IMREAD_REDUCED_COLOR_8
    )
    bgr = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), bgr_flag)
    assert bgr is not None
    assert np.array_equal(image, bgr[:, :, ::-1])


@pytest.mark.parametrize("reduce", [2, 4, 8])
def test_a_reduced_pixel_is_the_mean_of_those_it_stands_for(reduce: Reduction) -> None:
    data = encode(photo(336, 216), "JPEG", quality=95, subsampling=0)
    means = Image.fromarray(read(data)).reduce(reduce)
    assert np.abs(np.asarray(means).astype(int) - read(data, reduce)).mean() < 1


@pytest.mark.parametrize("image_format", ["PNG", "BMP"])
def test_a_png_or_bmp_is_never_reduced(image_format: str) -> None:
    data = encode(photo(), image_format)
    assert np.array_equal(read(data, 8), read(data))


def test_a_header_of_another_size_is_not_believed() -> None:
    data = encode(photo(), "PNG")
    with pytest.raises(ImageDecodeFailed, match="not that of the header"):
        decode(ImageHeader("png", 60, 45), data)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_opencv_refuses_or_raises_is_our_error(data: bytes) -> None:
    with pytest.raises(ImageDecodeFailed) as caught:
        decode(ImageHeader("png", 20, 16), data)
    assert caught.value.detail == "png: the image data cannot be decoded"


def test_rows_that_are_missing_are_not_made_up() -> None:
    rows = noise(16, 60, 1)[:, :, 0]
    whole = read(png(rows, 8, 2))
    tall = png(rows, 8, 2).replace(struct.pack(">II", 20, 16), struct.pack(">II", 20, 17))
    header, good_crc = tall[12:29], tall[:29]
    short = good_crc + struct.pack(">I", zlib.crc32(header)) + tall[33:]
    with pytest.raises(ImageDecodeFailed, match="cannot be decoded"):
        read(short)
    assert whole.shape == (16, 20, 3)


def test_opencv_uses_no_threads_of_its_own() -> None:
    assert cv2.getNumThreads() == 1
