"""Each step against Pillow, and against the written-out arithmetic where Pillow has none.

``python tests/unit/test_preprocess.py`` prints the table of ``docs/package.md``.
"""

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from app.imaging import resample
from app.imaging.preprocess import Preprocessor, locate_image
from app.imaging.resample import ByteArray, resize
from app.imaging.steps import (
    CenterCrop,
    CenterCropFraction,
    Color,
    ColorOrder,
    Filter,
    Geometry,
    Normalize,
    Resampling,
    ResizeExact,
    ResizeLetterbox,
    ResizeShortestSide,
    Sampling,
    Scale,
    Size,
    Step,
)

PHOTOS = Path(__file__).resolve().parent.parent / "photos"
SIZES = [Size(*sides) for sides in [(32, 32), (224, 224), (256, 341), (640, 480), (1024, 1024)]]
SHAPES = [(15, 15), (33, 47), (300, 451), (451, 300), (700, 640), (15, 1024), (1024, 15)]
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FAST_BICUBIC = Sampling("bicubic", True, "fast")
SAMPLINGS = [
    (Sampling("nearest", False, "fast"), 0),
    (Sampling("nearest", False, "exact"), 0),
    (Sampling("bilinear", True, "fast"), 2),
    (Sampling("bilinear", True, "exact"), 0),
    (FAST_BICUBIC, 2),
    (Sampling("bicubic", True, "exact"), 0),
    (Sampling("lanczos", True, "exact"), 0),
]
"""Every combination that Pillow has too, and the most levels that it may differ by."""

PLAIN = [Sampling("bilinear", False, "fast"), Sampling("bicubic", False, "fast")]


def sampling_name(value: object) -> str | None:
    if not isinstance(value, Sampling):
        return None
    return f"{value.filter}-{'antialias' if value.antialias else 'plain'}-{value.resampling}"


def noise(height: int, width: int, seed: int = 0) -> ByteArray:
    generator = np.random.default_rng([seed, height, width])
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def checks(height: int, width: int) -> ByteArray:
    """Black and white at random: the hardest case for every rounding and clipping."""
    return np.where(noise(height, width, seed=1) < 128, np.uint8(0), np.uint8(255))


def photos() -> Iterator[ByteArray]:
    for path in sorted(PHOTOS.iterdir()):
        if path.suffix != ".md":
            yield np.asarray(Image.open(path).convert("RGB"))


def images_of(kind: str) -> Iterator[ByteArray]:
    if kind == "photos":
        return photos()
    make = {"noise": noise, "checks": checks}[kind]
    return (make(*shape) for shape in SHAPES)


def difference(left: npt.ArrayLike, right: npt.ArrayLike) -> float:
    return float(np.abs(np.asarray(left, np.float64) - np.asarray(right, np.float64)).max())


def whole(image: ByteArray, size: Size, sampling: Sampling) -> ByteArray:
    return resize(image, size, sampling, (slice(size.height), slice(size.width)))


def pillow(image: ByteArray, size: Size, sampling: Sampling) -> ByteArray:
    picture = Image.fromarray(image)
    return np.asarray(picture.resize((size.width, size.height), PILLOW[sampling.filter]))


def plain_weights(length: int, wanted: int, cubic: bool) -> npt.NDArray[np.float64]:
    """The matrix of an axis: half-pixel centres, edge pixels repeated, a = -0.75."""
    matrix = np.zeros((wanted, length))
    for row, index in itertools.product(range(wanted), range(-1, 3)):
        centre = (row + 0.5) * length / wanted - 0.5
        start = int(np.floor(centre))
        distance = abs(centre - start - index)
        weight = keys(distance) if cubic else max(0.0, 1 - distance)
        matrix[row, min(max(start + index, 0), length - 1)] += weight
    return matrix


def keys(distance: float, a: float = -0.75) -> float:
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0


def plain(image: ByteArray, size: Size, sampling: Sampling) -> npt.NDArray[np.float64]:
    cubic = sampling.filter == "bicubic"
    rows = plain_weights(image.shape[0], size.height, cubic)
    columns = plain_weights(image.shape[1], size.width, cubic)
    result = np.einsum("yh,hwc->ywc", rows, image.astype(np.float64), optimize=True)
    result = np.einsum("xw,ywc->yxc", columns, result, optimize=True)
    clipped: npt.NDArray[np.float64] = np.clip(np.rint(result), 0, 255)
    return clipped


@pytest.mark.parametrize("kind", ["photos", "noise", "checks"])
@pytest.mark.parametrize(("sampling", "bound"), SAMPLINGS, ids=sampling_name)
def test_a_resize_stays_within_its_bound_of_pillow(
    kind: str, sampling: Sampling, bound: int
) -> None:
    for image, size in itertools.product(images_of(kind), SIZES):
        assert difference(whole(image, size, sampling), pillow(image, size, sampling)) <= bound


@pytest.mark.parametrize("sampling", PLAIN, ids=sampling_name)
def test_without_antialiasing_a_resize_stays_within_one_level_of_its_formula(
    sampling: Sampling,
) -> None:
    images = [noise(33, 47), checks(300, 451), checks(15, 700), next(photos())]
    for image, size in itertools.product(images, [Size(32, 48), Size(224, 224), Size(600, 301)]):
        assert difference(whole(image, size, sampling), plain(image, size, sampling)) <= 1


@pytest.mark.parametrize("sampling", [pair[0] for pair in SAMPLINGS] + PLAIN, ids=sampling_name)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(15, 400), (400, 15), (60, 200), (200, 60)])
def test_a_part_of_a_large_result_has_the_pixels_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, sampling: Sampling, channels: int, shape: tuple[int, int]
) -> None:
    image = checks(*shape)[:, :, :channels]
    size = ResizeShortestSide(128, sampling).output_size(Size(*shape))
    middle = size.height // 2
    window = slice(middle - 50, middle + 50), slice(size.width // 2 - 56, size.width)
    expected = resize(image, size, sampling, window)
    monkeypatch.setattr(resample, "MAX_WHOLE_PIXELS", 20_000)
    # Plain resizes are rounded once in parts and in fixed point as a whole.
    bound = 0 if sampling not in PLAIN else 1
    assert difference(resize(image, size, sampling, window), expected) <= bound


@pytest.mark.parametrize("sampling", [pair[0] for pair in SAMPLINGS], ids=sampling_name)
def test_the_same_size_leaves_the_pixels_alone(sampling: Sampling) -> None:
    image = noise(40, 30)
    assert np.array_equal(whole(image, Size(40, 30), sampling), image)


def torchvision_fit(image: ByteArray, size: int, crop: Size, pad: int) -> ByteArray:
    """``Compose([Resize(size), CenterCrop(crop)])`` of torchvision on a Pillow image."""
    picture = Image.fromarray(image)
    short, long = sorted(picture.size)
    long = int(size * long / short)
    wanted = (size, long) if picture.width <= picture.height else (long, size)
    return torchvision_crop(picture.resize(wanted, Image.Resampling.BILINEAR), crop, pad)


def torchvision_crop(picture: Image.Image, crop: Size, pad: int) -> ByteArray:
    lack_x, lack_y = max(0, crop.width - picture.width), max(0, crop.height - picture.height)
    border = (lack_x // 2, lack_y // 2, (lack_x + 1) // 2, (lack_y + 1) // 2)
    picture = ImageOps.expand(picture, border, fill=(pad, pad, pad))
    top = int(round((picture.height - crop.height) / 2.0))
    left = int(round((picture.width - crop.width) / 2.0))
    return np.asarray(picture.crop((left, top, left + crop.width, top + crop.height)))


ODD_AND_EVEN = [*itertools.product(range(100, 104), range(130, 134)), (301, 97), (97, 301)]


def fit(image: ByteArray, *geometry: Geometry, order: ColorOrder = "RGB") -> ByteArray:
    return Preprocessor([Color(order), *geometry]).fit(image)


@pytest.mark.parametrize(("resampling", "bound"), [("exact", 0), ("fast", 2)])
@pytest.mark.parametrize("crop", [Size(56, 56), Size(57, 40), Size(64, 64), Size(81, 90)])
@pytest.mark.parametrize("shape", ODD_AND_EVEN)
def test_shortest_side_and_centre_crop_are_those_of_torchvision(
    shape: tuple[int, int], crop: Size, resampling: Resampling, bound: int
) -> None:
    image = noise(*shape)
    seen = fit(
        image,
        ResizeShortestSide(64, Sampling("bilinear", True, resampling)),
        CenterCrop(*crop, (7, 7, 7)),
    )
    assert difference(seen, torchvision_fit(image, 64, crop, 7)) <= bound


@pytest.mark.parametrize("crop", [Size(101, 131), Size(50, 51), Size(200, 90), Size(111, 143)])
@pytest.mark.parametrize("shape", ODD_AND_EVEN)
def test_a_centre_crop_alone_is_that_of_torchvision(shape: tuple[int, int], crop: Size) -> None:
    image = noise(*shape)
    expected = torchvision_crop(Image.fromarray(image), crop, 9)
    assert np.array_equal(fit(image, CenterCrop(*crop, (9, 9, 9))), expected)


@pytest.mark.parametrize("shortest", [*range(15, 80), 300, 427, 1411, 4095])
def test_the_fractional_crop_truncates_its_side(shortest: int) -> None:
    side = CenterCropFraction(0.875).output_size(Size(shortest, 4096))
    assert side == (int(224 / 256 * shortest),) * 2
    assert side.height == Fraction(7, 8) * shortest // 1


@pytest.mark.parametrize(("height", "top"), [(16, 1), (17, 2), (18, 2), (19, 2), (20, 2)])
def test_half_of_an_odd_surplus_is_rounded_to_even(height: int, top: int) -> None:
    image = noise(height, height)
    side = int(0.875 * height)
    seen = fit(image, CenterCropFraction(0.875))
    assert np.array_equal(seen, image[top : top + side, top : top + side])


def test_a_fractional_crop_behind_a_shortest_side_resize_is_the_same_as_the_fixed_one() -> None:
    image = noise(301, 402)
    resize_step = ResizeShortestSide(64, FAST_BICUBIC)
    fraction = fit(image, resize_step, CenterCropFraction(0.875))
    assert np.array_equal(fraction, fit(image, resize_step, CenterCrop(56, 56, (0, 0, 0))))


def ultralytics_letterbox(image: ByteArray, size: Size) -> ByteArray:
    """``letterbox(auto=False, scaleup=True)`` of YOLO, with Pillow's resize."""
    ratio = min(size.height / image.shape[0], size.width / image.shape[1])
    inner = Size(max(1, round(image.shape[0] * ratio)), max(1, round(image.shape[1] * ratio)))
    top = round((size.height - inner.height) / 2 - 0.1)
    left = round((size.width - inner.width) / 2 - 0.1)
    canvas = Image.new("RGB", (size.width, size.height), (114, 115, 116))
    inner_picture = Image.fromarray(image).resize((inner.width, inner.height), PILLOW["bicubic"])
    canvas.paste(inner_picture, (left, top))
    return np.asarray(canvas)


@pytest.mark.parametrize(("resampling", "bound"), [("exact", 0), ("fast", 2)])
@pytest.mark.parametrize("shape", [*SHAPES, *ODD_AND_EVEN, (15, 4096), (4096, 15)])
def test_a_letterbox_is_placed_as_yolo_places_it(
    shape: tuple[int, int], resampling: Resampling, bound: int
) -> None:
    image = noise(*shape)
    step = ResizeLetterbox(64, 80, (114, 115, 116), Sampling("bicubic", True, resampling))
    assert difference(fit(image, step), ultralytics_letterbox(image, Size(64, 80))) <= bound


@pytest.mark.parametrize("sampling", [pair[0] for pair in SAMPLINGS] + PLAIN, ids=sampling_name)
@pytest.mark.parametrize("shape", [(15, 4096), (4096, 15), (15, 15)])
@pytest.mark.parametrize("order", ["RGB", "GRAY"])
def test_the_slimmest_images_fit_in_every_mode(
    shape: tuple[int, int], sampling: Sampling, order: ColorOrder
) -> None:
    image, pad = checks(*shape), (1,) if order == "GRAY" else (1, 2, 3)
    crop = CenterCrop(224, 224, pad)
    for geometry in (
        (ResizeShortestSide(256, sampling), crop),
        (ResizeShortestSide(200, sampling), crop),
        (ResizeExact(224, 224, sampling),),
        (ResizeLetterbox(224, 224, pad, sampling),),
        (CenterCropFraction(0.875), ResizeExact(224, 224, sampling)),
        (crop,),
    ):
        assert fit(image, *geometry, order=order).shape == (224, 224, len(pad))


def test_gray_is_the_luma_of_pillow() -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    image = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(52, -1, 3)
    seen = fit(image, CenterCrop(52, image.shape[1], (0,)), order="GRAY")
    red, green, blue = np.moveaxis(image.astype(np.uint32), 2, 0)
    formula = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    assert np.array_equal(seen[:, :, 0], formula)
    assert np.array_equal(seen[:, :, 0], np.asarray(Image.fromarray(image).convert("L")))


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic", "lanczos"])
def test_gray_is_resized_as_pillow_resizes_it(filter_: Filter) -> None:
    image = noise(300, 451)
    expected = Image.fromarray(image).convert("L").resize((64, 48), PILLOW[filter_])
    step = ResizeExact(48, 64, Sampling(filter_, True, "exact"))
    assert np.array_equal(fit(image, step, order="GRAY")[:, :, 0], np.asarray(expected))


IMAGENET = (Scale(1 / 255, 0.0), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def test_scale_and_normalise_are_to_tensor_and_normalize_of_torchvision() -> None:
    image = noise(48, 64)
    result = Preprocessor([Color("RGB"), CenterCrop(48, 64, (0, 0, 0)), *IMAGENET])(image)
    tensor = image.astype(np.float32).transpose(2, 0, 1) / np.float32(255)
    mean = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
    std = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
    assert difference(result, (tensor - mean) / std) < 5e-7


def test_the_demo_scale_is_exact() -> None:
    image = noise(224, 224)
    steps: list[Step] = [Color("RGB"), CenterCrop(224, 224, (0, 0, 0)), Scale(1 / 128, -127 / 128)]
    expected = (image.astype(np.float32).transpose(2, 0, 1) - 127) / 128
    assert np.array_equal(Preprocessor(steps)(image), expected)


def test_bgr_reverses_the_model_input_but_not_what_is_shown() -> None:
    image = noise(20, 20)
    crop, levels = CenterCrop(30, 20, (1, 2, 3)), Normalize((10, 20, 30), (1, 2, 3))
    preprocessor = Preprocessor([Color("BGR"), crop, levels])
    seen = preprocessor.fit(image)
    assert seen[0, 0].tolist() == [3, 2, 1]
    assert np.array_equal(seen[5:25], image)
    expected = (seen[:, :, ::-1].astype(np.float64) - [10, 20, 30]) / [1, 2, 3]
    assert np.array_equal(preprocessor(image), expected.transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize("order", ["RGB", "BGR", "GRAY"])
def test_the_result_is_float32_planes_without_gaps(order: ColorOrder) -> None:
    result = Preprocessor([Color(order), ResizeExact(40, 50, FAST_BICUBIC)])(noise(70, 60))
    assert result.shape == (1 if order == "GRAY" else 3, 40, 50)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert result.min() >= 0
    assert result.max() > 1


def read_only(image: ByteArray) -> ByteArray:
    image.flags.writeable = False
    return image


@pytest.mark.parametrize(
    "disguise",
    [
        read_only,
        np.asfortranarray,
        lambda image: image[:, :, ::-1][:, :, ::-1],
        lambda image: np.pad(image, ((1, 1), (2, 2), (0, 0)))[1:-1, 2:-2],
    ],
    ids=["read-only", "columns-first", "negative-strides", "view"],
)
@pytest.mark.parametrize("sampling", [pair[0] for pair in SAMPLINGS] + PLAIN, ids=sampling_name)
def test_the_memory_layout_of_the_image_does_not_matter(
    disguise: Callable[[ByteArray], ByteArray], sampling: Sampling
) -> None:
    preprocessor = Preprocessor([Color("RGB"), ResizeExact(40, 50, sampling), *IMAGENET])
    image = noise(70, 60)
    expected = preprocessor(image)
    assert np.array_equal(preprocessor(disguise(image.copy())), expected)


@pytest.mark.parametrize(
    "image",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.int8)],
)
def test_what_is_no_rgb_image_is_refused(image: ByteArray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\), got"):
        fit(image, CenterCrop(9, 9, (0, 0, 0)))


def test_an_image_is_never_written_to() -> None:
    image = noise(64, 64)
    before = image.copy()
    Preprocessor([Color("BGR"), CenterCropFraction(0.5), *IMAGENET])(image)
    assert np.array_equal(image, before)


def test_threads_share_a_preprocessor() -> None:
    preprocessor = Preprocessor(
        [Color("RGB"), ResizeShortestSide(64, FAST_BICUBIC), CenterCrop(56, 56, (0, 0, 0))]
    )
    images = [noise(90 + index, 120, seed=index) for index in range(8)]
    expected = [preprocessor(image) for image in images]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(30):
            if not np.array_equal(preprocessor(images[index]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def largest_differences() -> str:
    """The largest difference of each sampling from its reference, as a Markdown table."""
    lines = ["| sampling | reference | photos | noise | black and white |", "|---|---|---|---|---|"]
    references: list[tuple[Sampling, str, Callable[..., npt.ArrayLike]]]
    references = [(pair[0], "Pillow", pillow) for pair in SAMPLINGS]
    references += [(sampling, "formula", plain) for sampling in PLAIN]
    for sampling, reference, compute in references:
        cells = [
            max(
                difference(whole(image, size, sampling), compute(image, size, sampling))
                for image, size in itertools.product(images_of(kind), SIZES)
            )
            for kind in ("photos", "noise", "checks")
        ]
        values = " | ".join(f"{cell:.0f}" for cell in cells)
        lines.append(f"| {sampling_name(sampling)} | {reference} | {values} |")
    return "\n".join(lines) + "\n"


GEOMETRIES: list[list[Geometry]] = [
    [ResizeExact(64, 96, PLAIN[0])],
    [ResizeLetterbox(96, 64, (0, 0, 0), PLAIN[0])],
    [ResizeShortestSide(80, PLAIN[0]), CenterCrop(64, 64, (0, 0, 0))],
    [CenterCropFraction(0.875), ResizeExact(64, 64, PLAIN[0])],
    [CenterCrop(400, 240, (0, 0, 0)), ResizeExact(80, 48, PLAIN[0])],
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda steps: type(steps[0]).__name__)
@pytest.mark.parametrize("shape", [(300, 451), (200, 120)], ids=str)
def test_image_is_found_in_the_input(geometry: list[Geometry], shape: tuple[int, int]) -> None:
    size, steps = Size(*shape), [Color("RGB"), *geometry]
    rows, columns = locate_image(steps, size)
    for axis, (start, end) in enumerate((rows, columns)):
        # Brighter by one in each of 200 stripes across the axis, so that a pixel tells its place.
        stripes = 1 + np.arange(size[axis]) * 200 // size[axis]
        picture = np.stack(np.broadcast_arrays(*[np.expand_dims(stripes, 1 - axis)] * 3), axis=2)
        picture = np.broadcast_to(picture, (*size, 3)).astype(np.uint8)
        seen = Preprocessor(steps).fit(picture)[:, :, 0].max(axis=1 - axis).astype(float)
        middles = np.arange(len(seen)) + 0.5
        expected = 1 + 200 * (middles - start) / (end - start)
        inside = (middles > start + 1) & (middles < end - 1)
        assert np.abs(seen - expected)[inside].max() < 1 + 200 / min(size[axis], len(seen))
        assert not seen[(middles < start) | (middles > end)].any()


if __name__ == "__main__":
    sys.stdout.write(largest_differences())
