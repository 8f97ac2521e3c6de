"""Memory for decoding, and how much smaller a jpg may be decoded."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import ModelUnavailable
from app.imaging.header import ImageHeader
from app.imaging.reduction import largest_reduction
from app.imaging.steps import CenterCrop, CenterCropFraction, Color, ResizeExact, Sampling
from app.limits.decode_memory import BYTES_PER_PIXEL, DecodeMemoryLimiter

_PIXELS = 1000 * 1000
_MEGAPIXEL_BYTES = _PIXELS * BYTES_PER_PIXEL
_SAMPLING = Sampling("bicubic", True, "fast")
_DEMO = (Color("RGB"), CenterCropFraction(0.875), ResizeExact(224, 224, _SAMPLING))


def _soon() -> float:
    return time.monotonic() + 30


def test_images_together_never_take_more_than_the_budget() -> None:
    budget, most, lock = DecodeMemoryLimiter(3 * _MEGAPIXEL_BYTES), [0], threading.Lock()

    def use(_: int) -> None:
        with budget.reserve(1000, 1000, _soon()):
            with lock:
                most[0] = max(most[0], budget.used_bytes())
            time.sleep(0.002)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(use, range(60)))
    assert most[0] == 3 * _MEGAPIXEL_BYTES
    assert budget.used_bytes() == 0


def test_who_waits_for_memory_past_the_deadline_is_refused_and_blocks_nobody() -> None:
    budget = DecodeMemoryLimiter(2 * _MEGAPIXEL_BYTES)
    with budget.reserve(1000, 1000, _soon()):
        with pytest.raises(ModelUnavailable), budget.reserve(2000, 1000, time.monotonic() + 0.05):
            pass
        with budget.reserve(1000, 1000, _soon()):
            assert budget.used_bytes() == 2 * _MEGAPIXEL_BYTES


def test_image_above_the_whole_budget_is_decoded_alone() -> None:
    budget = DecodeMemoryLimiter(_MEGAPIXEL_BYTES)
    with budget.reserve(4096, 4096, _soon()):
        assert budget.used_bytes() == _MEGAPIXEL_BYTES


@pytest.mark.parametrize(
    ("width", "height", "reduction"),
    [
        (4000, 3000, 4),  # 0.875 * 3000 = 2625 px; 2625 / 4 = 656 is at least 448, / 8 is not
        (4096, 4096, 8),  # 3584 / 8 = 448
        (4096, 4095, 4),
        (1100, 1100, 2),
        (1000, 1000, 1),
        (600, 400, 1),
    ],
)
def test_reduction_leaves_twice_what_the_model_needs(
    width: int, height: int, reduction: int
) -> None:
    for sides in ((width, height), (height, width)):
        assert largest_reduction(_DEMO, ImageHeader("jpg", *sides)) == reduction


def test_png_and_a_crop_by_pixels_are_never_reduced() -> None:
    assert largest_reduction(_DEMO, ImageHeader("png", 4000, 3000)) == 1
    steps = (Color("RGB"), CenterCrop(2000, 2000, (0, 0, 0)), *_DEMO[2:])
    assert largest_reduction(steps, ImageHeader("jpg", 4000, 3000)) == 1
