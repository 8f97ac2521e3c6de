"""The inference queue: order, company, guilt and deadlines."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from app.errors import InternalError, ModelUnavailable
from app.inference.engines.base import FloatArray, LoadedEngine
from app.inference.queue import InferenceQueue
from app.inference.watchdog import Watchdog
from app.limits.core_gate import CoreGate

POISON = 666.0


class Doubling:
    """An engine whose output tells which image it was given."""

    name = "doubling"
    device = "cpu"

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self._before = before
        self.batches: list[int] = []

    def infer(self, batch: FloatArray) -> FloatArray:
        self.batches.append(len(batch))
        self._before()
        if (batch == POISON).any():
            raise RuntimeError("poisoned")
        return (batch * 2).reshape(len(batch), -1)


def _image(value: float) -> FloatArray:
    return np.full((1, 1, 1), value, np.float32)


def _soon() -> float:
    return time.monotonic() + 30


def test_each_answer_goes_to_its_owner() -> None:
    queue, model = InferenceQueue(3), LoadedEngine(Doubling(), 4)
    with ThreadPoolExecutor(16) as pool:
        jobs = pool.map(lambda v: (v, queue.infer(model, _image(v), _soon())), range(500))
        for value, job in jobs:
            assert job.output is not None
            assert job.output.tolist() == [value * 2]
    queue.close()


def test_what_waits_is_taken_together_and_only_the_guilty_fail() -> None:
    gate, entered = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        gate.wait(30)

    queue, engine = InferenceQueue(1), Doubling(hold)
    model = LoadedEngine(engine, 4)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(queue.infer, model, _image(1), _soon())
        assert entered.wait(30)
        values = [2.0, POISON, 3.0, 4.0]
        rest = [pool.submit(queue.infer, model, _image(v), _soon()) for v in values]
        while queue.depth() < len(values):
            time.sleep(0.001)
        gate.set()
        assert first.result().output is not None
        with pytest.raises(InternalError):
            rest[1].result()
        for value, future in zip(values, rest, strict=True):
            if value != POISON:
                output = future.result().output
                assert output is not None
                assert output.tolist() == [value * 2]
    assert engine.batches == [1, 4, 1, 1, 1, 1]
    queue.close()


def test_models_are_never_mixed_in_a_batch() -> None:
    gate = threading.Event()
    blocker = LoadedEngine(Doubling(lambda: gate.wait(30)), 8)
    one, other = Doubling(), Doubling()
    models = [LoadedEngine(engine, 8) for engine in (one, other)]
    queue = InferenceQueue(1)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(queue.infer, blocker, _image(0), _soon())]
        for model in (*models, *models):
            futures.append(pool.submit(queue.infer, model, _image(5), _soon()))
        while queue.depth() < 4:
            time.sleep(0.001)
        gate.set()
        for future in futures:
            future.result()
    assert (one.batches, other.batches) == ([2], [2])
    queue.close()


def test_late_work_is_refused_at_its_deadline_and_never_computed() -> None:
    gate, entered = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        gate.wait(30)

    queue, blocker, engine = InferenceQueue(1), Doubling(hold), Doubling()
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(queue.infer, LoadedEngine(blocker, 1), _image(0), _soon())
        assert entered.wait(30)
        with pytest.raises(ModelUnavailable):
            queue.infer(LoadedEngine(engine, 1), _image(1), time.monotonic() + 0.05)
        assert not busy.done()
        assert queue.depth() == 0
        gate.set()
        busy.result()
    assert engine.batches == []
    queue.close()


def test_hung_inference_is_abandoned_with_all_that_waits() -> None:
    gate, entered, ended = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        gate.wait(30)

    queue, model = InferenceQueue(1), LoadedEngine(Doubling(hold), 1)
    Watchdog(queue, 0.2, ended.set).start()
    with ThreadPoolExecutor(2) as pool:
        hung = pool.submit(queue.infer, model, _image(0), _soon())
        assert entered.wait(30)
        waiting = pool.submit(queue.infer, model, _image(1), _soon())
        for future in (hung, waiting):
            with pytest.raises(ModelUnavailable):
                future.result(30)
        assert queue.is_hung
        with pytest.raises(ModelUnavailable):
            queue.infer(model, _image(2), _soon())
        assert ended.wait(30)
        gate.set()
    queue.close()


def test_a_caller_computes_its_image_itself_while_a_core_is_idle() -> None:
    gate, entered = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        gate.wait(30)

    threads: list[int] = []
    queue, blocker = InferenceQueue(1), Doubling(hold)
    model = LoadedEngine(Doubling(lambda: threads.append(threading.get_ident())), 1)
    queue.infer(model, _image(1), _soon(), in_caller=True)
    queue.infer(model, _image(1), _soon())
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(queue.infer, LoadedEngine(blocker, 1), _image(0), _soon())
        assert entered.wait(30)
        waiting = pool.submit(queue.infer, model, _image(1), _soon(), True)
        while queue.depth() < 1:
            time.sleep(0.001)
        gate.set()
        busy.result()
        waiting.result()
    assert [ident == threading.get_ident() for ident in threads] == [True, False, False]
    with pytest.raises(ModelUnavailable):
        queue.infer(model, _image(1), time.monotonic() - 1, in_caller=True)
    assert len(threads) == 3
    queue.close()


@pytest.mark.parametrize("in_caller", [True, False])
def test_only_an_uncontended_image_is_computed_by_all_cores(
    in_caller: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, entered = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        gate.wait(30)

    monkeypatch.setattr("app.limits.core_gate.UNCONTENDED_S", 0)
    cores = CoreGate(2)
    queue, alone, engine = InferenceQueue(2, cores), Doubling(hold), Doubling()
    model = LoadedEngine(engine, 1, alone)
    with cores.prepare(_soon()):  # the next request's image
        queue.infer(model, _image(1), _soon(), in_caller)
    assert (alone.batches, engine.batches) == ([], [1])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(queue.infer, model, _image(1), _soon(), in_caller)
        assert entered.wait(30)
        queue.infer(model, _image(2), _soon(), in_caller)
        assert (alone.batches, engine.batches) == ([1], [1, 1])
        gate.set()
        assert first.result().output is not None
    output = queue.infer(model, _image(3), _soon(), in_caller).output
    assert output is not None
    assert output.tolist() == [6]
    assert (alone.batches, engine.batches) == ([1, 1], [1, 1])
    monkeypatch.setattr("app.limits.core_gate.UNCONTENDED_S", 3600)
    queue.infer(model, _image(4), _soon(), in_caller)
    assert (alone.batches, engine.batches) == ([1, 1], [1, 1, 1])
    queue.close()


def test_no_more_inferences_run_at_once_than_the_queue_has_threads() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def count() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1

    queue, model = InferenceQueue(2), LoadedEngine(Doubling(count), 2)
    with ThreadPoolExecutor(16) as pool:
        jobs = pool.map(
            lambda v: (v, queue.infer(model, _image(v), _soon(), in_caller=v % 3 != 0)),
            range(500),
        )
        for value, job in jobs:
            assert job.output is not None
            assert job.output.tolist() == [value * 2]
    assert most == 2
    queue.close()


def test_a_hung_inference_is_reported_before_the_process_ends() -> None:
    gate, entered, ended = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        gate.wait(30)

    queue, reported = InferenceQueue(1), list[ModelUnavailable]()
    watchdog = Watchdog(queue, 0.2, ended.set)
    watchdog.on_hang = reported.append
    watchdog.start()
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(queue.infer, LoadedEngine(Doubling(hold), 1), _image(0), _soon(), True)
        assert entered.wait(30)
        assert ended.wait(30)
        assert queue.is_hung
        assert [error.error_code for error in reported] == [336100]
        assert not hung.done()
        gate.set()
    queue.close()


def test_closing_answers_what_waits_and_refuses_the_next() -> None:
    queue, model = InferenceQueue(1), LoadedEngine(Doubling(), 1)
    assert queue.infer(model, _image(1), _soon()).output is not None
    queue.close()
    with pytest.raises(ModelUnavailable):
        queue.infer(model, _image(1), _soon())
