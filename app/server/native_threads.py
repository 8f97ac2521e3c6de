"""Native threads that work for the greenlets of an event loop."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from typing import Any

import gevent
from gevent.event import AsyncResult

from app.system.priority import lower_priority


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


class NativeThreads:
    """Runs functions in native threads while the calling greenlets wait, first come first served.

    ``gevent.threadpool.ThreadPool`` lets its callers wait on a semaphore that is not fair: under
    overload some waited for seconds. ``concurrent.futures`` waits at exit for a call that hangs;
    these threads are daemons.

    Args:
        threads: Maximum number of functions that run at once.
        name: prefix of the threads' names.
        niceness: see lower_priority.
    """

    def __init__(self, threads: int, name: str, niceness: int = 0) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._pending: set[_Call] = set()
        self._name, self._numbers, self._niceness = name, count(), niceness
        for _ in range(threads):
            self._start_thread()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in a native thread and wait for its result.

        Raises:
            BaseException: whatever the function raises, or what ``fail_pending`` was given.
        """
        call = _Call(function, arguments)
        self._pending.add(call)
        try:
            self._calls.put(call)
            return call.waiter.get()
        finally:
            self._pending.discard(call)

    def fail_pending(self, error: Exception) -> None:
        """Raise an error in every greenlet that waits; to be called in the event loop's thread."""
        for call in list(self._pending):
            call.waiter.set_exception(error)

    @contextmanager
    def step_aside(self) -> Iterator[None]:
        """Let a new thread take the place of the calling one, which waits for something else."""
        self._start_thread()
        try:
            yield
        finally:
            self._calls.put(None)  # ends a thread

    def _start_thread(self) -> None:
        name = f"{self._name}-{next(self._numbers)}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _serve(self) -> None:
        lower_priority(self._niceness)
        while call := self._calls.get():
            call.execute()
            del call  # its arguments must not outlive it
