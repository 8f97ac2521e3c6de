"""Greenlets that wait for native threads."""

import os
import threading
import time
from collections.abc import Iterator

import gevent
import pytest

from app.errors import ModelUnavailable
from app.server.native_threads import NativeThreads
from app.system.priority import COMPUTE_NICENESS
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def _event_loop() -> Iterator[None]:
    """An event loop with nothing to do ends; that of a worker always has a timer."""
    timer = gevent.spawn(gevent.sleep, 60)
    yield
    timer.kill()


def test_result_and_failure_reach_the_greenlet_that_asked() -> None:
    threads = NativeThreads(2, "test")
    assert threads.run(lambda value: value * 2, 21) == 42
    with pytest.raises(ZeroDivisionError):
        threads.run(lambda: 1 // 0)


def test_event_loop_runs_while_a_thread_works() -> None:
    threads, turns = NativeThreads(1, "test"), 0
    work = gevent.spawn(threads.run, time.sleep, 0.3)
    while not work.ready():
        turns += 1
        gevent.sleep(0.01)
    assert turns > 5


def test_functions_run_in_the_order_in_which_they_came() -> None:
    threads, gate, order = NativeThreads(1, "test"), threading.Event(), list[int]()
    first = gevent.spawn(threads.run, gate.wait, 30)
    gevent.sleep(0)
    rest = [gevent.spawn(threads.run, order.append, number) for number in range(50)]
    gevent.sleep(0)
    gate.set()
    gevent.joinall([first, *rest], raise_error=True)
    assert order == list(range(50))


def test_pending_calls_fail_when_their_threads_hang() -> None:
    threads, gate = NativeThreads(1, "test"), threading.Event()
    hung = gevent.spawn(threads.run, gate.wait, 30)
    gevent.sleep(0)
    threads.fail_pending(ModelUnavailable("an inference hangs"))
    with pytest.raises(ModelUnavailable):
        hung.get(timeout=10)
    gate.set()


def test_a_thread_that_steps_aside_is_replaced_until_it_comes_back() -> None:
    threads, gate = NativeThreads(1, "test"), threading.Event()
    before = threading.active_count()

    def wait_aside() -> bool:
        with threads.step_aside():
            return gate.wait(30)

    aside = [gevent.spawn(threads.run, wait_aside) for _ in range(3)]
    gevent.sleep(0)
    # All three wait, and yet another call is served.
    assert threads.run(lambda: 42) == 42
    assert threading.active_count() == before + 3
    gate.set()
    gevent.joinall(aside, raise_error=True)
    wait_until(lambda: threading.active_count() == before, wait_s=30, pause_s=0.01)


def test_threads_remain_after_many_have_stepped_aside() -> None:
    threads = NativeThreads(2, "test")

    def step_aside() -> None:
        with threads.step_aside():
            pass

    gevent.joinall([gevent.spawn(threads.run, step_aside) for _ in range(50)], raise_error=True)
    assert threads.run(lambda: 42) == 42


def test_threads_that_compute_yield_to_the_event_loop() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    threads = NativeThreads(1, "test", COMPUTE_NICENESS)
    assert threads.run(niceness) == niceness() + COMPUTE_NICENESS

    # A thread that another one starts inherits its priority; it must not sink further.
    gate = threading.Event()
    hung = gevent.spawn(threads.run, _step_aside_until, threads, gate)
    assert threads.run(niceness) == niceness() + COMPUTE_NICENESS
    gate.set()
    hung.get(timeout=10)


def _step_aside_until(threads: NativeThreads, gate: threading.Event) -> None:
    with threads.step_aside():
        gate.wait(30)
