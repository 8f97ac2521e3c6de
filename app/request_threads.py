"""The threads that answer a worker's requests."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class _Task:
    future: "Future[Any]"
    call: Callable[[], Any]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.call()
        except BaseException as exc:
            self.future.set_exception(exc)
        else:
            self.future.set_result(result)


@dataclass(eq=False)
class _Place:
    """Where an idle thread waits for its next task."""

    task: _Task | None = None
    wake: threading.Lock = field(default_factory=threading.Lock)


class RequestThreads(Executor):
    """Threads that are all there from the start, the last one to become idle being the next.

    ``ThreadPoolExecutor`` makes a thread when it is first wanted: under load that takes 8 ms,
    for which its caller waits. And it takes idle threads in turn, so that a little load passes
    through all of them, each with buffers of its own in the libraries that it calls.

    Args:
        number: how many threads.
    """

    def __init__(self, number: int) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Place] = []
        self._waiting: deque[_Task] = deque()
        self._closed = False
        for index in range(number):
            name = f"request-{index}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Have a thread call a function; see Executor.submit."""
        future: Future[Any] = Future()
        task = _Task(future, lambda: fn(*args, **kwargs))
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads have ended")
            if not self._idle:
                self._waiting.append(task)
                return future
            place = self._idle.pop()
        place.task = task
        place.wake.release()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; threads end when nothing waits. It never waits for them."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for place in idle:
            place.wake.release()

    def _serve(self) -> None:
        place = _Place()
        place.wake.acquire()
        while task := self._next(place):
            task.run()
            place.task = task = None  # what it holds must not outlive it

    def _next(self, place: _Place) -> _Task | None:
        """The task that has waited longest, or the next one; None when there will be none."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self._closed:
                return None
            self._idle.append(place)
        place.wake.acquire()
        return place.task
