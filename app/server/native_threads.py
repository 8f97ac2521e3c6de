"""Native threads that work for the greenlets of an event loop."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import AsyncResult


@dataclass(eq=False)
class _Call:
    """A function to call, and the greenlet that waits for its result."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    waiter: AsyncResult = field(default_factory=AsyncResult)
    loop: Any = field(default_factory=lambda: gevent.get_hub().loop)

    def execute(self) -> None:
        try:
            result = self.function(*self.arguments)
        except BaseException as exc:
            self.loop.run_callback_threadsafe(self.waiter.set_exception, exc)
        else:
            self.loop.run_callback_threadsafe(self.waiter.set, result)


@dataclass(eq=False)
class _IdleThread:
    """Where a thread without work waits for its next call."""

    call: _Call | None = None
    wake: threading.Lock = field(default_factory=threading.Lock)


class NativeThreads:
    """Runs functions in native threads while the calling greenlets wait, first come first served.

    Of the idle threads the last one to become idle gets the next call: its caches are warm, and
    a low load uses one thread. ``gevent.threadpool.ThreadPool`` lets its callers wait on a
    semaphore that is not fair: under overload some waited for seconds.

    Args:
        threads: Maximum number of functions that run at once.
        name: prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._lock = threading.Lock()
        self._idle: list[_IdleThread] = []
        self._waiting: deque[_Call] = deque()
        self._pending: set[_Call] = set()
        for index in range(threads):
            threading.Thread(target=self._serve, name=f"{name}-{index}", daemon=True).start()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in a native thread and wait for its result.

        Raises:
            BaseException: whatever the function raises, or what ``fail_pending`` was given.
        """
        call = _Call(function, arguments)
        self._pending.add(call)
        try:
            self._hand_over(call)
            return call.waiter.get()
        finally:
            self._pending.discard(call)

    def fail_pending(self, error: Exception) -> None:
        """Raise an error in every greenlet that waits; to be called in the event loop's thread."""
        for call in list(self._pending):
            call.waiter.set_exception(error)

    def _hand_over(self, call: _Call) -> None:
        with self._lock:
            if not self._idle:
                self._waiting.append(call)
                return
            thread = self._idle.pop()
        thread.call = call
        thread.wake.release()

    def _serve(self) -> None:
        thread = _IdleThread()
        thread.wake.acquire()
        while True:
            self._next_call(thread).execute()
            thread.call = None  # its arguments must not outlive it

    def _next_call(self, thread: _IdleThread) -> _Call:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(thread)
        thread.wake.acquire()
        assert thread.call is not None  # noqa: S101 - set before the release
        return thread.call
