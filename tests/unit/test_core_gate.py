"""Images are prepared on the cores that inferences leave, in order, and never not at all."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

from app.errors import ModelUnavailable
from app.limits.core_gate import IMAGES_AHEAD, CoreGate
from tests.support.waiting import wait_until

WAIT_S = 30

_wait_until = partial(wait_until, wait_s=WAIT_S, pause_s=0.001)


def _soon() -> float:
    return time.monotonic() + WAIT_S


class Preparations:
    """Preparations that go on until they are told to end, in threads of their own."""

    def __init__(self, cores: CoreGate) -> None:
        self.begun: list[int] = []
        self._cores = cores
        self._ends: dict[int, threading.Event] = {}
        self._pool = ThreadPoolExecutor(8)

    def start(self, number: int) -> "Future[float]":
        self._ends[number] = threading.Event()
        return self._pool.submit(self._prepare, number)

    def end(self, number: int) -> None:
        self._ends[number].set()

    def _prepare(self, number: int) -> float:
        with self._cores.prepare(_soon()) as waited_ms:
            self.begun.append(number)
            assert self._ends[number].wait(WAIT_S)
        return waited_ms


def _is_waiting(cores: CoreGate, count: int) -> bool:
    return cores.waiting() == count


def test_one_more_than_there_are_cores_while_nothing_is_computed() -> None:
    cores = CoreGate(2)
    images = Preparations(cores)
    futures = []
    for number in range(5):
        futures.append(images.start(number))
        _wait_until(lambda number=number: len(images.begun) + cores.waiting() > number)  # type: ignore[misc]  # bound early
    assert images.begun == [0, 1, 2]
    for number in range(5):
        images.end(number)
    waited = [future.result(WAIT_S) for future in futures]
    assert waited[:3] == [0.0, 0.0, 0.0]
    assert min(waited[3:]) > 0


def test_one_at_a_time_and_in_order_while_every_core_computes() -> None:
    cores = CoreGate(2)
    for _ in range(5):  # more than there are cores: three of them wait for one
        cores.begin_inference()
    images = Preparations(cores)
    futures = []
    for number in range(4):
        futures.append(images.start(number))
        _wait_until(lambda number=number: _is_waiting(cores, number))  # type: ignore[misc]  # bound early
    for number in range(4):
        _wait_until(lambda number=number: len(images.begun) > number)  # type: ignore[misc]  # bound early
        assert images.begun == list(range(number + 1))
        images.end(number)
    for future in futures:
        future.result(WAIT_S)


def test_end_of_an_inference_lets_the_next_one_in() -> None:
    cores = CoreGate(2)
    cores.begin_inference()
    cores.begin_inference()
    images = Preparations(cores)
    images.start(0)
    _wait_until(lambda: images.begun == [0])
    second = images.start(1)
    _wait_until(lambda: _is_waiting(cores, 1))
    cores.end_inference()
    _wait_until(lambda: images.begun == [0, 1])
    images.end(0)
    images.end(1)
    assert second.result(WAIT_S) > 0


def test_who_waits_past_the_deadline_is_told_so_and_passes_the_turn_on() -> None:
    cores = CoreGate(1)
    cores.begin_inference()
    images = Preparations(cores)
    images.start(0)
    _wait_until(lambda: images.begun == [0])
    with ThreadPoolExecutor(1) as pool:

        def prepare() -> None:
            with cores.prepare(time.monotonic() + 0.05):
                raise AssertionError("there was no core")

        late = pool.submit(prepare)
        _wait_until(lambda: _is_waiting(cores, 1))
        images.start(1)
        with pytest.raises(ModelUnavailable, match="deadline"):
            late.result(WAIT_S)
    images.end(0)
    _wait_until(lambda: images.begun == [0, 1])
    images.end(1)


def test_nothing_is_prepared_while_enough_waits_for_the_model() -> None:
    cores = CoreGate(2)
    for _ in range(2 * IMAGES_AHEAD):
        cores.begin_inference()
    images = Preparations(cores)
    images.start(0)
    _wait_until(lambda: _is_waiting(cores, 1))
    assert images.begun == []
    cores.end_inference()
    _wait_until(lambda: images.begun == [0])
    images.end(0)


def test_failing_preparation_gives_its_core_back() -> None:
    cores = CoreGate(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), cores.prepare(_soon()):
            raise ValueError("broken")
    cores.begin_inference()
    with cores.prepare(_soon()) as waited_ms:
        assert waited_ms == 0
