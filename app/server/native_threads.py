"""Native threads that work for the greenlets of an event loop."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import gevent
from gevent.event import AsyncResult

from app.system.locks import held_lock
from app.system.priority import lower_priority


@dataclass(eq=False)
class _Call:
    """A function to call, and the greenlet that waits for its result."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    waiter: AsyncResult = field(default_factory=AsyncResult)

    def execute(self, run_in_loop: Callable[..., Any]) -> None:
        try:
            result = self.function(*self.arguments)
        except BaseException as exc:
            run_in_loop(self.waiter.set_exception, exc)
        else:
            run_in_loop(self.waiter.set, result)


@dataclass(eq=False)
class _Thread:
    """Where an idle thread waits for its next call; None ends it."""

    call: _Call | None = None
    wake: threading.Lock = field(default_factory=held_lock)


class NativeThreads:
    """Runs functions in native threads while the calling greenlets wait, first come first served.

    The last thread to become idle works first. When idle threads took turns, the kernel often had
    two busy ones share a core while another core was idle (docs/design.md).

    ``gevent.threadpool.ThreadPool`` lets its callers wait on a semaphore that is not fair: under
    overload some waited for seconds. ``concurrent.futures`` waits at exit for a call that hangs;
    these threads are daemons.

    Args:
        threads: Maximum number of functions that run at once.
        name: prefix of the threads' names.
        niceness: see lower_priority.
    """

    def __init__(self, threads: int, name: str, niceness: int = 0) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Thread] = []
        self._waiting: deque[_Call | None] = deque()
        self._pending: set[_Call] = set()
        self._name, self._numbers, self._niceness = name, count(), niceness
        self._run_in_loop = gevent.get_hub().loop.run_callback_threadsafe
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
            self._submit(call)
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
            self._submit(None)

    def _start_thread(self) -> None:
        name = f"{self._name}-{next(self._numbers)}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _submit(self, call: _Call | None) -> None:
        with self._lock:
            if not self._idle:
                self._waiting.append(call)
                return
            thread = self._idle.pop()
        thread.call = call
        thread.wake.release()

    def _serve(self) -> None:
        lower_priority(self._niceness)
        thread = _Thread()
        while call := self._next_call(thread):
            call.execute(self._run_in_loop)
            thread.call = call = None  # its arguments must not outlive it

    def _next_call(self, thread: _Thread) -> _Call | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(thread)
        thread.wake.acquire()
        return thread.call
