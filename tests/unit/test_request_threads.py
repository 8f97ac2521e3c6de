"""The threads that answer requests."""

import threading
import time

import pytest

from app.request_threads import RequestThreads


def test_results_and_failures_reach_their_futures() -> None:
    threads = RequestThreads(2)
    assert [threads.submit(divmod, number, 3).result(5) for number in (7, 8)] == [(2, 1), (2, 2)]
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result(5)
    assert threads.submit(divmod, 1, 1).result(5) == (1, 0)


def test_more_tasks_than_threads_wait_in_order() -> None:
    threads, gate = RequestThreads(1), threading.Event()
    order: list[int] = []
    futures = [threads.submit(gate.wait), *(threads.submit(order.append, n) for n in range(50))]
    time.sleep(0.05)
    assert not order
    gate.set()
    for future in futures:
        future.result(5)
    assert order == list(range(50))


def test_one_after_the_other_is_work_for_one_thread() -> None:
    threads = RequestThreads(8)
    seen = set()
    for _ in range(20):
        seen.add(threads.submit(threading.get_ident).result(5))
        time.sleep(0.01)  # until it is idle again
    assert len(seen) == 1


def test_all_threads_work_at_once() -> None:
    threads, together = RequestThreads(8), threading.Barrier(9)
    futures = [threads.submit(together.wait, 5) for _ in range(8)]
    together.wait(5)
    assert {future.result(5) for future in futures} <= set(range(9))


def test_a_shut_down_pool_finishes_what_it_has_and_ends() -> None:
    before = threading.active_count()
    threads = RequestThreads(4)
    started = threads.submit(time.sleep, 0.1)
    threads.shutdown()
    started.result(5)
    with pytest.raises(RuntimeError, match="ended"):
        threads.submit(time.sleep, 0)
    deadline = time.monotonic() + 5
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
