"""Images that take long to decode: what counts as one, and that nobody waits for it."""

import os
import threading
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import numpy as np
import pytest

from app.errors import ImageDecodeFailed, ModelUnavailable
from app.imaging.decode import decode
from app.imaging.guard import guard
from app.limits.core_gate import CoreGate
from app.limits.costly_images import CostlyImages
from app.limits.decode_memory import DecodeMemoryLimiter
from app.system.priority import COSTLY_NICENESS
from tests.support.costly_files import jpeg_with_scans, png, png_of
from tests.support.images import PHOTOS, solid
from tests.support.waiting import wait_until

WAIT_S = 30
MEMORY_BYTES = 1_000_000_000

Result = TypeVar("Result")

_wait_until = partial(wait_until, wait_s=WAIT_S, pause_s=0.001)


def _soon() -> float:
    return time.monotonic() + WAIT_S


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def _costly(threads: int = 1, max_waiting: int = 8, cores: CoreGate | None = None) -> CostlyImages:
    memory = DecodeMemoryLimiter(MEMORY_BYTES)
    return CostlyImages(threads, max_waiting, cores or CoreGate(1), memory)


def _count_aside(costly: CostlyImages) -> list[int]:
    """Return a list that gets the id of each thread that steps aside."""
    aside: list[int] = []

    def step_aside() -> AbstractContextManager[None]:
        aside.append(threading.get_ident())
        return nullcontext()

    costly.step_aside = step_aside
    return aside


class Callers:
    """Threads that wait for costly images, which last until they are told to end."""

    def __init__(self, costly: CostlyImages, cores: CoreGate) -> None:
        self.begun: list[int] = []
        self.end = threading.Event()
        self._costly, self._cores = costly, cores
        self._pool = ThreadPoolExecutor(8)

    def start(self, number: int) -> "Future[int]":
        return self._pool.submit(self._call, number)

    def _call(self, number: int) -> int:
        with self._cores.prepare(_soon()):
            return self._costly.run(4096, 4096, _soon(), partial(self._decode, number))

    def _decode(self, number: int) -> int:
        self.begun.append(number)
        assert self.end.wait(WAIT_S)
        return number


def test_only_the_thread_that_decodes_has_a_lower_priority() -> None:
    before = _niceness()
    assert _costly().run(20, 20, _soon(), _niceness) == before + COSTLY_NICENESS
    assert _niceness() == before


def test_waiting_threads_hold_no_core() -> None:
    cores = CoreGate(1)
    costly = _costly(1, 8, cores)
    callers, aside = Callers(costly, cores), _count_aside(costly)
    # More than the gate lets in at once.
    futures = [callers.start(number) for number in range(6)]
    _wait_until(lambda: len(aside) == 6)
    with cores.prepare(_soon()) as waited_ms:
        assert waited_ms == 0
    callers.end.set()
    assert [future.result(WAIT_S) for future in futures] == list(range(6))


def test_core_is_held_again_afterwards() -> None:
    cores = CoreGate(1)
    for _ in range(3):
        cores.begin_inference()
    with cores.prepare(_soon()):
        with cores.step_out(), cores.prepare(_soon()) as waited_ms:
            assert waited_ms == 0
        with pytest.raises(ModelUnavailable), cores.prepare(time.monotonic()):
            pass
    with cores.prepare(_soon()) as waited_ms:
        assert waited_ms == 0


def test_costly_images_are_decoded_first_come_first_served() -> None:
    cores = CoreGate(8)
    costly = _costly(1, 8, cores)
    callers, order = Callers(costly, cores), list[int]()
    first = callers.start(-1)
    _wait_until(lambda: callers.begun == [-1])
    with ThreadPoolExecutor(5) as pool:
        for number in range(5):
            with cores.prepare(_soon()):
                pass
            pool.submit(costly.run, 20, 20, _soon(), partial(order.append, number))
            _wait_until(lambda number=number: costly.waiting() == number + 2)  # type: ignore[misc]  # bound early
        callers.end.set()
    assert first.result(WAIT_S) == -1
    assert order == list(range(5))


def test_another_thread_takes_the_place_of_one_that_waits() -> None:
    events: list[str] = []

    def decode() -> None:
        _wait_until(lambda: events == ["aside"])
        events.append("decoded")

    @contextmanager
    def step_aside():  # type: ignore[no-untyped-def]
        events.append("aside")
        yield
        events.append("back")

    costly = _costly()
    costly.step_aside = step_aside
    costly.run(20, 20, _soon(), decode)
    assert events == ["aside", "decoded", "back"]


def test_too_many_are_refused_before_they_step_aside() -> None:
    cores = CoreGate(8)
    costly = _costly(1, 2, cores)
    callers, aside = Callers(costly, cores), _count_aside(costly)
    futures = [callers.start(number) for number in range(2)]
    _wait_until(lambda: len(aside) == 2)
    with pytest.raises(ModelUnavailable) as caught:
        costly.run(20, 20, _soon(), lambda: None)
    assert caught.value.detail == "2 costly images are already in flight"
    assert len(aside) == 2
    callers.end.set()
    for future in futures:
        future.result(WAIT_S)
    costly.run(20, 20, _soon(), lambda: None)


def test_late_image_is_not_decoded() -> None:
    decoded: list[int] = []
    with pytest.raises(ModelUnavailable, match="deadline"):
        _costly().run(20, 20, time.monotonic() - 1, lambda: decoded.append(1))
    assert decoded == []


def test_failure_reaches_the_caller_and_frees_the_place() -> None:
    costly = _costly(1, 1)

    def fail() -> None:
        raise ImageDecodeFailed("png: the image data cannot be decoded")

    for _ in range(3):
        with pytest.raises(ImageDecodeFailed):
            costly.run(4096, 4096, _soon(), fail)
    assert costly.waiting() == 0


@pytest.mark.parametrize("path", sorted(PHOTOS.glob("*.*g")) + [PHOTOS / "clock.bmp"])
def test_ordinary_photos_are_not_costly(path) -> None:  # type: ignore[no-untyped-def]
    assert not guard(path.read_bytes())[0].is_costly


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with_scans(4),
        jpeg_with_scans(32),
        solid((1, 2, 3), (4096, 4096), "JPEG"),
        solid((1, 2, 3), (4096, 4096), "PNG"),
        png(1024, 6, 16, bytes(1024 * (1 + 8 * 1024))),
        png(4096, 0, 1, bytes(4096 * (1 + 4096 // 8))),
    ],
    ids=["4 scans", "32 scans", "jpg", "png", "png of 16 bits", "png of 1 bit"],
)
def test_what_takes_long_is_costly_however_small_the_file_is(data: bytes) -> None:
    assert guard(data)[0].is_costly


def test_small_png_that_inflates_to_much_is_refused() -> None:
    with pytest.raises(ImageDecodeFailed) as caught:
        guard(png(16, 2, 8, bytes(100_000_000)))
    assert caught.value.detail == "png: the image data holds more than 1050144 bytes"


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        (zlib.compress(bytes(400_000_000)), "png: the image data holds more than 5251072 bytes"),
        (bytes(400_000), "png: the image data is not a zlib stream"),
    ],
)
def test_what_a_costly_png_inflates_to_is_checked_where_it_is_decoded(
    more: bytes, detail: str
) -> None:
    header, passed = guard(png_of(4096, 0, 1, more))
    assert header.is_costly
    with pytest.raises(ImageDecodeFailed) as caught:
        decode(header, passed)
    assert caught.value.detail == detail


def test_rows_of_a_png_are_passed_on_inflated() -> None:
    rows = (b"\1" + bytes(range(60))) * 16
    data = png(20, 2, 8, rows, height_px=16)
    header, passed = guard(data)
    assert zlib.compress(rows, 0) in passed
    np.testing.assert_array_equal(decode(header, passed), decode(header, data))
