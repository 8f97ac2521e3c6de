"""Native threads that work for the greenlets of an event loop."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import gevent
from gevent.event import AsyncResult

Result = TypeVar("Result")


class NativeThreads:
    """Runs functions in native threads while the calling greenlets wait, first come first served.

    ``gevent.threadpool.ThreadPool`` lets its callers wait on a semaphore that is not fair:
    under overload some callers waited for seconds while others were served at once.

    Args:
        threads: Maximum number of functions that run at once.
        name: prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, name)
        self._pending: set[AsyncResult] = set()

    def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function in a native thread and wait for its result.

        Raises:
            Exception: whatever the function raises, or what ``fail_pending`` was given.
        """
        loop, waiter = gevent.get_hub().loop, AsyncResult()
        self._pending.add(waiter)
        try:
            future = self._executor.submit(function, *args)
            future.add_done_callback(
                lambda done: loop.run_callback_threadsafe(_hand_over, done, waiter)
            )
            result: Result = waiter.get()
            return result
        finally:
            self._pending.discard(waiter)

    def fail_pending(self, error: Exception) -> None:
        """Raise an error in every greenlet that waits; to be called in the event loop's thread."""
        for waiter in list(self._pending):
            waiter.set_exception(error)


def _hand_over(done: "Future[Any]", waiter: AsyncResult) -> None:
    error = done.exception()
    if error is None:
        waiter.set(done.result())
    else:
        waiter.set_exception(error)
