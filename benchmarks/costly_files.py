"""Requests that are small, or allowed, and take a server much processor time."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from PIL import Image

from benchmarks.support import PATH, PHOTO, photo_body
from tests.support.costly_files import jpeg_with_scans, png

SIDE_PX = 4096
BATCH_PATH = f"{PATH}/batch"
HEATMAP_PATH = f"{PATH}/heatmap"
BATCH_IMAGES = 64
LARGER_PHOTO = PHOTO.parent / "retina.jpg"


@dataclass(frozen=True)
class Case:
    """A kind of costly request.

    Attributes:
        key: names it on the command line.
        name: says what it is.
        make_body: makes the JSON body.
        path: where it is sent.
    """

    key: str
    name: str
    make_body: Callable[[], bytes]
    path: str = PATH


def _png_with_excess() -> bytes:
    return png(16, 2, 8, bytes(250_000_000))


def _png_of_16_bits() -> bytes:
    paeth = b"\4"
    return png(SIDE_PX, 6, 16, (paeth + bytes(8 * SIDE_PX)) * SIDE_PX)


def _pillow(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _gradient() -> Image.Image:
    return Image.linear_gradient("L").resize((SIDE_PX, SIDE_PX)).convert("RGB")


def _enlarged_photo() -> Image.Image:
    return Image.open(PHOTO).resize((SIDE_PX, SIDE_PX))


def _jpeg(progressive: bool = False) -> bytes:
    return _pillow(_gradient(), "JPEG", progressive=progressive, subsampling=0)


def _large_photo() -> bytes:
    return _pillow(_enlarged_photo(), "JPEG", progressive=True, quality=85)


def _bmp_of_1_bit() -> bytes:
    return _pillow(Image.new("1", (SIDE_PX, SIDE_PX)), "BMP")


def _numbers() -> bytes:
    return b'{"image": [' + b",".join([b"1" * 4000] * 1900) + b"]}"


def _one(make_file: Callable[[], bytes]) -> bytes:
    return json.dumps({"image": base64.b64encode(make_file()).decode()}).encode()


def _many(make_file: Callable[[], bytes]) -> bytes:
    return json.dumps({"images": [base64.b64encode(make_file()).decode()] * BATCH_IMAGES}).encode()


CASES = (
    Case("scans", "jpg, 32 scans, 4096 px", partial(_one, partial(jpeg_with_scans, 32))),
    Case("excess", "png, 16 px, 250 MB in IDAT", partial(_one, _png_with_excess)),
    Case("batch", f"batch of {BATCH_IMAGES} photos", partial(_many, PHOTO.read_bytes), BATCH_PATH),
    Case("png16", "png, 16 bits, RGBA, 4096 px", partial(_one, _png_of_16_bits)),
    Case("jpg", "jpg, 4096 px", partial(_one, _jpeg)),
    Case("progressive", "jpg, 10 scans, 4096 px", partial(_one, partial(_jpeg, True))),
    Case("photo", "photo, progressive jpg, 4096 px", partial(_one, _large_photo)),
    Case("bmp", "bmp, 1 bit, 4096 px", partial(_one, _bmp_of_1_bit)),
    Case(
        "batch-scans",
        f"batch of {BATCH_IMAGES} jpg of 32 scans",
        partial(_many, partial(jpeg_with_scans, 32)),
        BATCH_PATH,
    ),
    Case("heatmap", "a heat map of the photo", photo_body, HEATMAP_PATH),
    Case("numbers", "8 MB of numbers, no image", _numbers),
    Case("below", "photo of 2 megapixels", partial(photo_body, LARGER_PHOTO)),
    Case("equal", "the same photo as the others", photo_body),
)
